"""Finds passages of a file by their embeddings, then orders the best of them with a cross-encoder.

python examples/rerank.py QUERY FILE --reranker RERANKER [--model EMBEDDER] [--candidates 20] [--top 5]

An embedder reads each passage once, and is fast; a cross-encoder reads query and passage together, and is exact. So many
are looked at by the first, and few by the second.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import aerogel


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("query")
    parser.add_argument("file", type=Path, help="passages, with an empty line between")
    parser.add_argument(
        "--reranker", required=True, help="a cross-encoder, such as cross-encoder/ms-marco-MiniLM-L6-v2"
    )
    parser.add_argument("--model", help="an embedding model; all-MiniLM-L6-v2 unless given")
    parser.add_argument("--candidates", type=int, default=20, help="how many the cross-encoder reads")
    parser.add_argument("--top", type=int, default=5, help="how many are shown")
    given = parser.parse_args(arguments)

    passages = [" ".join(text.split()) for text in given.file.read_text(encoding="utf-8").split("\n\n") if text.strip()]
    if not passages:
        print(f"{given.file}: no text")
        return 1
    embedder = aerogel.load(given.model or sample(), quant="int8")
    scores = embedder.similarity(embedder.encode_query(given.query), embedder.encode_document(passages))[0]
    candidates = [passages[i] for i in np.argsort(-scores)[: given.candidates]]

    reranker = aerogel.load(given.reranker, quant="int8")
    for place in reranker.rank(given.query, candidates, top_k=given.top, return_documents=True):
        print(f"{place['score']:.3f}  (was {place['corpus_id'] + 1}.)  {place['text'][:100]}")
    return 0


def sample() -> str:
    from aerogel.checkpoint.samples import fetch

    return str(fetch("all-MiniLM-L6-v2"))


if __name__ == "__main__":
    raise SystemExit(main())

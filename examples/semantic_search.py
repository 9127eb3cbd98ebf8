"""Searches the texts in a folder by meaning.

python examples/semantic_search.py FOLDER QUERY [--model MODEL] [--top 5]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import aerogel

KINDS = (".md", ".txt", ".rst", ".py")


def passages(folder: Path) -> Iterator[tuple[str, str]]:
    """Where a paragraph stands, as file:line, and its text."""
    for file in sorted(path for path in folder.rglob("*") if path.suffix in KINDS and path.is_file()):
        begin, lines = 1, []
        for number, line in enumerate([*file.read_text(encoding="utf-8", errors="replace").splitlines(), ""], 1):
            if line.strip():
                lines.append(line.strip())
                continue
            if lines:
                yield f"{file}:{begin}", " ".join(lines)
            begin, lines = number + 1, []


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("query")
    parser.add_argument("--model", help="an embedding model; all-MiniLM-L6-v2 unless given")
    parser.add_argument("--top", type=int, default=5, help="how many passages are shown")
    given = parser.parse_args(arguments)

    found = list(passages(given.folder))
    if not found:
        print(f"{given.folder}: no texts ({', '.join(KINDS)})")
        return 1
    # int8 is faster, and as good here; a model that is packed already stays what it is.
    model = aerogel.load(given.model or sample(), quant="int8")
    documents = model.encode_document([text for _, text in found])  # float32 [passages, width]
    scores = model.similarity(model.encode_query(given.query), documents)[0]
    for i in np.argsort(-scores)[: given.top]:
        where, text = found[i]
        print(f"{scores[i]:.3f}  {where}  {text[:100]}")
    return 0


def sample() -> str:
    from aerogel.checkpoint.samples import fetch

    return str(fetch("all-MiniLM-L6-v2"))


if __name__ == "__main__":
    raise SystemExit(main())

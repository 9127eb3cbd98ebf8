"""What compression cost: STS-B Spearman of an encoder, perplexity of a language model, each against dense fp32.

    python benchmarks/accuracy.py --encoder MODEL --stsb dev.csv [--aerogel PACKED ...]
    python benchmarks/accuracy.py --llama MODEL.gguf --text validation.txt [--aerogel PACKED ...]

The two functions take any callable, so that other code can score what it likes.

STS-B: rows `sentence,sentence,score` without a header; both sides are encoded (at most 256 tokens), mean-pooled and
scaled to length one; Spearman between cosine and score.

Perplexity: the text is one list of ids, cut in disjoint windows (stride = window). Each window is run alone from an
empty cache, with no BOS in front (the tokenizers here add none); its first id is context only, the others are scored.
The last, shorter window counts too.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import references

MAX_TOKENS = 256
WINDOW = 512


def read_stsb(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    with open(path, newline="", encoding="utf-8") as file:
        left, right, scores = zip(*csv.reader(file))
    return list(left), list(right), np.asarray(scores, float)


def stsb_spearman(encode: Callable[[list[str]], np.ndarray], path: Path) -> float:
    """encode: sentences -> [S, hidden]; need not be normalised."""
    from scipy.stats import spearmanr

    left, right, scores = read_stsb(path)
    a, b = np.asarray(encode(left), np.float64), np.asarray(encode(right), np.float64)
    cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float(spearmanr(cosine, scores).statistic)


def perplexity(logits: Callable[[np.ndarray], np.ndarray], ids: np.ndarray, window: int = WINDOW) -> float:
    """logits: int32 ids [T] -> float [T, vocabulary], row t scoring id t + 1."""
    total, scored = 0.0, 0
    for start in range(0, len(ids) - 1, window):
        piece = np.asarray(ids[start : start + window], np.int32)
        if len(piece) < 2:
            break
        rows = np.asarray(logits(piece)[:-1], np.float64)
        top = rows.max(axis=1)
        log_sum = top + np.log(np.exp(rows - top[:, None]).sum(axis=1))
        total += float((log_sum - rows[np.arange(len(rows)), piece[1:]]).sum())
        scored += len(rows)
    if not scored:
        raise ValueError(f"expected at least 2 ids, got {len(ids)}")
    return float(np.exp(total / scored))


def reference_encode(folder: Path) -> Callable[[list[str]], np.ndarray]:
    bert, tokenizer = references.load_encoder(folder)

    def encode(sentences: list[str]) -> np.ndarray:
        rows = references.token_ids(tokenizer, sentences, MAX_TOKENS)
        return references.mean_pooled(references.hidden_states(bert, rows))

    return encode


def reference_logits(model) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    def logits(ids: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()

    return logits


def aerogel_logits(model) -> Callable[[np.ndarray], np.ndarray]:
    return lambda ids: model.forward(ids, np.asarray([0, len(ids)], np.int32))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, help="BERT checkpoint folder")
    parser.add_argument("--stsb", type=Path, help="STS-B rows as csv")
    parser.add_argument("--llama", type=Path, help="GGUF file of a llama model")
    parser.add_argument("--text", type=Path, help="text for the perplexity")
    parser.add_argument(
        "--aerogel",
        action="append",
        default=[],
        type=Path,
        metavar="PACKED",
        help="a packed model of the same kind, scored beside the reference",
    )
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if not (options.encoder or options.llama):
        parser.error("give --encoder with --stsb, or --llama with --text")
    if options.aerogel and options.encoder and options.llama:
        parser.error("--aerogel needs to know its kind: give --encoder or --llama, not both")

    if options.encoder and _present("STS-B", options.encoder, options.stsb):
        _limit_torch(options.threads)
        print(
            f"STS-B Spearman {stsb_spearman(reference_encode(options.encoder), options.stsb):.4f}  "
            f"fp32 {options.encoder.name}"
        )
        for folder, model in _aerogel_models(options):
            print(f"STS-B Spearman {stsb_spearman(model.encode, options.stsb):.4f}  aerogel {folder.name}")
    if options.llama and _present("perplexity", options.llama, options.text):
        _limit_torch(options.threads)
        llama, tokenizer = references.load_gguf_llama(options.llama)
        ids = np.asarray(tokenizer.encode(options.text.read_text(encoding="utf-8")).ids, np.int32)
        print(f"perplexity {perplexity(reference_logits(llama), ids):.3f}  fp32 {options.llama.name}")
        for folder, model in _aerogel_models(options):
            print(f"perplexity {perplexity(aerogel_logits(model), ids):.3f}  aerogel {folder.name}")
    return 0


def _present(what: str, *paths: Path | None) -> bool:
    absent = [str(path or "a path that was not given") for path in paths if path is None or not path.exists()]
    if absent:
        print(f"SKIP {what}: no {', '.join(absent)}", file=sys.stderr)
    return not absent


def _limit_torch(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _aerogel_models(options):
    if not options.aerogel:
        return
    try:
        import aerogel
    except ModuleNotFoundError as absent:
        print(f"SKIP aerogel: {absent}", file=sys.stderr)
        return
    for folder in options.aerogel:
        yield folder, aerogel.load(str(folder), threads=options.threads)


if __name__ == "__main__":
    sys.exit(main())

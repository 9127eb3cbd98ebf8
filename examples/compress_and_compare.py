"""Compresses an embedding model, and compares the result with the dense one: size, speed, and how alike the embeddings are.

python examples/compress_and_compare.py [--model MODEL] [--sparsity 0.8] [--method admm] [--out FOLDER]

`aerogel compress` and `aerogel bench` do the same with far more care; this shows the calls.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import aerogel
from aerogel.bench import sentences


def milliseconds(model: aerogel.Model, texts: list[str], repeats: int = 5) -> float:
    """The least time of several calls, a call."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        model.encode(texts)
        times.append(time.perf_counter() - begin)
    return 1000 * min(times)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="an embedding model; all-MiniLM-L6-v2 unless given")
    parser.add_argument("--sparsity", type=float, default=0.8)
    parser.add_argument("--method", help="of pruning: admm unless given, which takes minutes; magnitude takes seconds")
    parser.add_argument("--out", type=Path, help="a folder to keep the compressed model in")
    given = parser.parse_args(arguments)

    source = given.model or sample()
    texts = [line for lines in sentences().values() for line in lines]
    with tempfile.TemporaryDirectory() as scratch:
        out = given.out or Path(scratch) / "compressed"
        report = aerogel.compress(source, out, sparsity=given.sparsity, method=given.method)
        print(report)
        dense, packed = aerogel.load(source, quant="int8"), aerogel.load(out)
        alike = np.sum(dense.encode(texts, normalize=True) * packed.encode(texts, normalize=True), axis=1)
        before, after = milliseconds(dense, texts), milliseconds(packed, texts)
        size = sum(file.stat().st_size for file in Path(out).rglob("*") if file.is_file())
        print(
            f"{len(texts)} texts: {before:.1f} ms dense int8, {after:.1f} ms compressed: {before / after:.2f} times as fast"
        )
        print(f"{size / 1e6:.1f} MB on disk; cosine to dense embeddings {alike.mean():.3f}, least {alike.min():.3f}")
    return 0


def sample() -> str:
    from aerogel.checkpoint.samples import fetch

    return str(fetch("all-MiniLM-L6-v2"))


if __name__ == "__main__":
    raise SystemExit(main())

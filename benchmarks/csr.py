"""csr_f32 beside the CSR products that everybody has: SciPy's and MKL's (pip install scipy sparse-dot-mkl mkl).

    python benchmarks/csr.py [--shape 768x768] [--sparsity 0.8,0.9,0.95] [--tokens 1,2,4,...] [--threads 1]

Each engine in a process of its own, in turns; every result is checked. SciPy has one thread only.
"""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from aerogel.bench import bench_linear
from aerogel.bench.tables import cases, notes
from aerogel.cli.bench import shape_of

TOKENS = (1, 2, 4, 8, 16, 32, 64, 128)


def compare(shape: str, sparsities: list[float], tokens: list[int], threads: int, rounds: int) -> dict[str, Any]:
    n, k = shape_of(shape)
    return bench_linear(n, k, sparsities, tokens=tokens, threads=threads, rounds=rounds, peers="scipy,sparse_dot_mkl")


def rows(result: dict[str, Any], sparsities: list[float]) -> list[list[str]]:
    """Each case's times in us, and how many times faster csr_f32 is; the first row names the columns."""
    by_name = {v["name"]: v["latency_ms"] for v in result["variants"]}
    lines = [["tokens", "zeros", "dense fp32", "csr_f32", "scipy", "MKL", "x dense", "x scipy", "x MKL"]]
    for case in cases(result):
        for s in sparsities:
            names = ("dense fp32", f"sparse fp32 {s:.0%}", f"scipy fp32 {s:.0%}", f"sparse_dot_mkl fp32 {s:.0%}")
            dense, own, *others = [by_name.get(name, {}).get(case, {}).get("median") for name in names]
            times = [dense, own, *others]
            lines.append(
                [case.removeprefix("1x"), f"{s:.0%}"]
                + ["" if t is None else f"{1000 * t:.1f}" for t in times]
                + ["" if t is None else f"{t / own:.2f}" for t in (dense, *others)]
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="768x768")
    parser.add_argument("--sparsity", default="0.8,0.9,0.95")
    parser.add_argument("--tokens", default=",".join(map(str, TOKENS)))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sparsities = [float(s) for s in options.sparsity.split(",")]
    tokens = [int(m) for m in options.tokens.split(",")]
    result = compare(options.shape, sparsities, tokens, options.threads, options.rounds)
    head, *body = rows(result, sparsities)
    table = Table(*head, title=f"{options.shape}, {options.threads} threads, median us", title_justify="left")
    for row in body:
        table.add_row(*row)
    Console().print(table)
    for line in notes(result):
        print(line)


if __name__ == "__main__":
    main()

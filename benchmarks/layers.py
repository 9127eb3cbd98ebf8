"""What the benchmarks of single layers share: weights, packing, and timing within one process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import numpy as np

import aerogel._core as core
from aerogel.checkpoint import open_checkpoint
from aerogel.numbers.bf16 import narrow, widen
from aerogel.prune import magnitude, parse_pattern


def gaussian(n: int, k: int) -> np.ndarray:
    return np.random.default_rng(n * 65537 + k).standard_normal((n, k), np.float32)


def real(n: int, k: int) -> np.ndarray | None:
    """A matrix [n,k] of the model that AEROGEL_MINILM names, from its middle layer; None if it has none such."""
    folder = os.environ.get("AEROGEL_MINILM")
    if not folder:
        return None
    checkpoint = open_checkpoint(folder)
    for name in sorted(checkpoint.names(), key=lambda name: ".3." not in name):
        if name.startswith("encoder.") and checkpoint.shape(name) == (n, k):
            return checkpoint.weight(name).dense()
    return None


def pruned(weights: np.ndarray, pattern: str) -> np.ndarray:
    """By magnitude, to a sparsity such as 0.8, a pattern such as 8:64, or blocks with a sparsity such as 4x1@0.8."""
    if ":" in pattern:
        chosen = parse_pattern(pattern, None)
    else:
        blocks, _, sparsity = pattern.rpartition("@")
        chosen = parse_pattern(blocks or "unstructured", float(sparsity))
    return magnitude(weights, None, chosen).weight


def pack(weights: np.ndarray, format: str, isa: str | None = None) -> core.Weight:
    """Float weights in a kernel format; int8 codes with one scale a row for those that take them."""
    source = core.WeightSource(weights.shape[1])
    if format.endswith("q8"):
        codes, scale = quantized(weights)
        source.add_dense_q8("w", codes, scale)
    else:
        source.add_dense("w", np.ascontiguousarray(weights))
    return core.pack(source, format=format, isa=isa)


def quantized(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = np.maximum(np.abs(weights).max(axis=1) / np.float32(127), np.float32(1e-12))
    return np.rint(weights / scale[:, None]).astype(np.int8), scale


def check(weight: core.Weight, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Fails unless y is x times the weights that `pack` was given, as exactly as the format can be."""
    format = weight.forms[0]["format"]
    tolerance = 1e-4
    if format.endswith("q8"):
        codes, scale = quantized(weights)
        weights = codes * scale[:, None]
        tolerance = 0.02  # x is rounded to 8 bits
    elif format.endswith("bf16"):
        weights = widen(narrow(np.ascontiguousarray(weights)))
    expected = x @ weights.T
    assert np.abs(y - expected).max() <= tolerance * np.abs(expected).max(), f"{format}: a wrong result"


def formats() -> list[str]:
    """The kernel formats of the instruction set in use, those of the scalar fallback left out."""
    isa = core.isa()
    return [r["name"] for r in core.kernels() if r["kind"] == "linear" and r["isa"] == isa and r["available"]]


def microseconds(runs: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """The 10th percentile of short calls, taken in turn: it survives neighbours, and everyone has the same ones.

    Calls under 20 us are timed in groups, so that the clock is not what is measured.
    """
    groups, times = [], [[] for _ in runs]
    for run in runs:
        run()
        start = time.perf_counter()
        run()
        groups.append(max(1, int(2e-5 / max(time.perf_counter() - start, 1e-7))))
    start = time.perf_counter()
    while len(times[0]) < 5 or time.perf_counter() - start < seconds:
        for run, group, row in zip(runs, groups, times):
            begin = time.perf_counter()
            for _ in range(group):
                run()
            row.append((time.perf_counter() - begin) / group)
    return [1e6 * float(np.percentile(row, 10)) for row in times]

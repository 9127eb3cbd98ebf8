"""Every linear kernel of the table, on one thread, beside the dense kernel of the same ISA.

    pytest benchmarks/test_linear.py --benchmark-group-by=group --benchmark-columns=median,ops

A group is one shape, token count, number type and ISA; its dense row is the baseline. `extra_info` has the useful
multiplications a second (GMAC/s of the *dense* product: what the zeros are worth shows as a higher figure).
"""

from __future__ import annotations

import aerogel._core as core
import numpy as np
import pytest

from aerogel.bf16 import narrow, widen

SHAPES = [(384, 384), (1536, 384), (384, 1536), (768, 768), (3072, 768)]
TOKENS = [1, 16, 128]
SPARSITIES = [0.5, 0.8, 0.9, 0.95]


def _kernels():
    for row in core.kernels():
        if row["kind"] == "linear" and row["available"]:
            dense = row["name"].startswith("dense")
            for sparsity in [0.0] if dense else SPARSITIES:
                yield pytest.param(row["name"], row["isa"], sparsity, id=f"{row['isa']}-{row['name']}-{sparsity:.0%}")


def _weights(rng: np.random.Generator, n: int, k: int, sparsity: float) -> np.ndarray:
    """Gaussian weights with the smallest removed, as magnitude pruning leaves them: [n, k] float32."""
    w = rng.standard_normal((n, k)).astype(np.float32)
    if sparsity:
        w[np.abs(w) < np.quantile(np.abs(w), sparsity)] = 0
    return w


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("name, isa, sparsity", _kernels())
def test_linear(benchmark, name, isa, sparsity, shape, tokens):
    n, k = shape
    rng = np.random.default_rng(0)
    w = _weights(rng, n, k, sparsity)
    x = rng.standard_normal((tokens, k)).astype(np.float32)
    source = core.WeightSource(k)
    if name.endswith("q8"):
        scale = np.abs(w).max(axis=1) / np.float32(127)
        codes = np.rint(w / scale[:, None]).astype(np.int8)
        source.add_dense_q8("w", codes, scale)
        expected = x @ (codes * scale[:, None]).T
        tolerance = 0.02 * np.abs(expected).max()  # x is rounded to 8 bits
    else:
        if name.endswith("bf16"):
            w = widen(narrow(w))
        source.add_dense("w", w)
        expected = x @ w.T
        tolerance = 1e-4 * np.abs(expected).max()
    weight = core.pack(source, format=name, isa=isa)
    benchmark.group = f"{isa} {'int8' if name.endswith('q8') else 'fp32'} {n}x{k} M={tokens}"
    y = benchmark(core.linear, weight, x)
    assert np.abs(y - expected).max() <= tolerance
    benchmark.extra_info["dense_gmacs"] = tokens * n * k / benchmark.stats.stats.median / 1e9
    benchmark.extra_info["weight_bytes"] = weight.nbytes

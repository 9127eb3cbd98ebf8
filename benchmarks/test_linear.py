"""Every linear kernel of the table, on one thread, beside the dense kernel of the same ISA.

    pytest benchmarks/test_linear.py --benchmark-group-by=group --benchmark-columns=median,ops
    pytest benchmarks/test_linear.py --shapes all --tokens all --sparsities all --weights random,real --isas all

A group is one shape, token count, number type and ISA; its dense row is the baseline. `extra_info` has the
multiplications a second of the *dense* product (what the zeros are worth shows as a higher figure) and of those done.
"""

from __future__ import annotations

import numpy as np
import pytest

import aerogel._core as core
import layers
from conftest import PATTERNS, SHAPES, SPARSITIES


def pytest_generate_tests(metafunc):
    def asked(option: str, everything) -> list[str]:
        text = metafunc.config.getoption(option)
        return list(everything) if text == "all" else [word.strip() for word in text.split(",")]

    shapes = [tuple(map(int, shape.split("x"))) for shape in asked("--shapes", SHAPES)]
    tokens = [int(m) for m in asked("--tokens", (1, 4, 16, 128, 512))]
    isas = asked("--isas", core.supported_isas())
    cases = []
    for row in core.kernels():
        if row["kind"] != "linear" or not row["available"] or row["isa"] not in isas:
            continue
        dense = row["name"].startswith("dense")
        for origin in asked("--weights", ()):
            for pattern in ["0"] if dense else asked("--sparsities", SPARSITIES + PATTERNS):
                name = f"{row['isa']}-{row['name']}-{origin}-{pattern}"
                cases.append(pytest.param(row["name"], row["isa"], origin, pattern, id=name))
    metafunc.parametrize("name, isa, origin, pattern", cases)
    metafunc.parametrize("shape", shapes, ids=lambda shape: f"{shape[0]}x{shape[1]}")
    metafunc.parametrize("tokens", tokens)


def test_linear(benchmark, name, isa, origin, pattern, shape, tokens):
    n, k = shape
    weights = layers.real(n, k) if origin == "real" else layers.gaussian(n, k)
    if weights is None:
        pytest.skip(f"no real weights [{n}, {k}]: AEROGEL_MINILM names a model that has some")
    w = layers.pruned(weights, pattern) if pattern != "0" else weights
    x = np.random.default_rng(0).standard_normal((tokens, k)).astype(np.float32)
    weight = layers.pack(w, name, isa)
    benchmark.group = f"{isa} {'int8' if name.endswith('q8') else 'fp32'} {n}x{k} M={tokens} {origin}"
    y = benchmark(core.linear, weight, x)
    layers.check(weight, w, x, y)
    median = benchmark.stats.stats.median
    benchmark.extra_info["dense_gmacs"] = tokens * n * k / median / 1e9
    benchmark.extra_info["useful_gmacs"] = tokens * weight.nonzeros / median / 1e9
    benchmark.extra_info["weight_bytes"] = weight.nbytes

"""Benchmarks of a model or one linear layer against its dense forms and other engines, in one interleaved run.

    bench_model("packed-model", peers="auto")
    bench_linear(768, 768, sparsities=[0.8, 0.9])

Both return plain values, for `tables` and `plot`. Times are medians over interleaved rounds (`run`), checked for noise on
the machine (`noise`); speed-ups are over aerogel's dense int8; shares are of the machine's measured peak rates (`limits`).
"""

from __future__ import annotations

from aerogel.bench.cases import LINEAR_TOKENS
from aerogel.bench.contestants import Peers
from aerogel.bench.layer import bench_linear
from aerogel.bench.limits import machine
from aerogel.bench.model import bench_model, bench_variants
from aerogel.bench.run import ROUNDS
from aerogel.bench.texts import sentences
from aerogel.bench.variants import Variant, dense_variants

__all__ = [
    "LINEAR_TOKENS",
    "ROUNDS",
    "Peers",
    "Variant",
    "bench_linear",
    "bench_model",
    "bench_variants",
    "dense_variants",
    "machine",
    "sentences",
]

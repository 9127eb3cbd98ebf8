"""Measuring one linear layer."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aerogel._util.checks import thread_count
from aerogel._util.progress import Progress
from aerogel.bench.cases import LINEAR_TOKENS, Case
from aerogel.bench.contest import hold
from aerogel.bench.contestants import Peers, linear_contestants
from aerogel.bench.run import ROUNDS


def bench_linear(
    n: int,
    k: int,
    sparsities: Sequence[float] = (0.5, 0.8, 0.9),
    *,
    tokens: Sequence[int] = LINEAR_TOKENS,
    threads: int | None = None,
    rounds: int = ROUNDS,
    peers: str | Peers = "none",
    weights: np.ndarray | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures one linear layer y[M,N] = x[M,K] w[N,K]^T, dense and at each sparsity.

    Args:
        n, k: outputs and inputs.
        sparsities: fractions of weights that are removed, the smallest first.
        tokens: the Ms.
        weights: [N,K] float32; Gaussian ones unless given.
        threads, rounds, peers, progress: as for `bench_model`.
    """
    asked = peers if isinstance(peers, Peers) else Peers(peers)
    workers = thread_count(threads)
    random = np.random.default_rng(1)
    cases = [Case(f"1x{m}", (random.standard_normal((m, k), np.float32),), m) for m in tokens]
    with tempfile.TemporaryDirectory(prefix="aerogel-bench-") as work:
        contestants = linear_contestants(n, k, sparsities, asked, Path(work), workers, weights)
        truth = {}
        for contestant in contestants:
            with np.load(contestant.job["model"]) as arrays:
                weight = arrays["weight"].T
                truth[str(contestant.reference)] = {case.name: case.arrays[0] @ weight for case in cases}
        return hold(
            contestants,
            cases,
            "linear",
            threads=workers,
            rounds=rounds,
            peers=asked,
            target=f"{n}x{k}",
            truth=truth,
            progress=progress,
        )

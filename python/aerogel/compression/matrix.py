"""One matrix: pruned, quantized, stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aerogel.calibrate import Statistics
from aerogel.checkpoint import Weight
from aerogel.prune import Pattern, cubic_steps, method
from aerogel.quantize import scheme
from aerogel.quantize.compensated import compensated, importance_of
from aerogel.quantize.stored import to_weight


@dataclass(frozen=True)
class Choice:
    """How one matrix is compressed.

    Attributes:
        scheme: of quantization.
        pattern: which weights stay; None: all.
        method: of pruning.
        steps: in how many steps the sparsity rises.
        compensated: rounding errors are made up for by the weights that are rounded later.
        sparse: whether the file has a mask; None: where that is smaller.
        refit: no weight goes, but the values are fitted to what pruned layers before hand on.
    """

    scheme: str
    pattern: Pattern | None = None
    method: str = "magnitude"
    steps: int = 1
    compensated: bool = False
    sparse: bool | None = None
    refit: bool = False


def compress_matrix(weight: np.ndarray, choice: Choice, known: Any = None) -> Weight:
    """The stored form of float32 [N,K].

    Args:
        weight: the matrix.
        choice: what becomes of it.
        known: what the method and compensation need: `Statistics` of the input, or a gradient for "taylor".
    """
    mask = None
    if choice.pattern is not None and choice.pattern.sparsity > 0:
        for sparsity in cubic_steps(0.0, choice.pattern.sparsity, choice.steps)[:-1]:
            weight = method(choice.method).function(weight, known, choice.pattern.at(sparsity)).weight
        weight, mask = method(choice.method).function(weight, known, choice.pattern)
    chosen = scheme(choice.scheme)
    if not (choice.compensated and isinstance(known, Statistics)):
        grid = chosen.grid(weight)
    else:
        grid = chosen.grid(weight, importance_of(known.gram))
        weight = compensated(weight, weight != 0 if mask is None else mask, known.gram, grid)
    return to_weight(grid.quantize(weight), choice.sparse)


def error_of(dense: np.ndarray, stored: np.ndarray) -> float:
    """|dense - stored| / |dense|, Frobenius."""
    norm = float(np.linalg.norm(dense))
    return float(np.linalg.norm(dense - stored)) / norm if norm else 0.0

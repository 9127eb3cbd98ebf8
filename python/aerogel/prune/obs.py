"""Optimal brain surgeon in blocks: SparseGPT (Frantar and Alistarh, arXiv 2301.00774).

    score[n,k] = |w[n,k]| / U[k,k]        H^-1 = U^T U, H = gram + damping

the square root of the error that removing w[n,k] adds to the output after all later columns have compensated for it; they
do (`sweep`), so scores are taken from what the weights have become, block by block of 128 columns, or window by window.
"""

from __future__ import annotations

import numpy as np

from aerogel._util.checks import number
from aerogel.calibrate.statistics import Statistics
from aerogel.errors import RecipeError
from aerogel.prune.contract import Pruned, checked_inputs, checked_pattern
from aerogel.prune.pattern import Pattern
from aerogel.prune.sweep import Rounds, sweep


def obs(
    weight: np.ndarray,
    statistics: Statistics | None,
    pattern: Pattern,
    *,
    damping: float = 0.01,
    grid: Rounds | None = None,
) -> Pruned:
    """Prunes to the pattern and adjusts the remaining weights, so that the layer's output changes little.

    Args:
        weight: float32 [N,K], finite.
        statistics: what calibration saw at the input [., K]; the gram matrix may be singular.
        pattern: how many may stay, and where. Without windows of its own each block of columns is equally sparse.
        damping: fraction of the mean diagonal of the gram matrix that is added to it.
        grid: round in the same pass (GPTQ): the weights that stay are on the grid.
    """
    weight, statistics = checked_inputs(weight, statistics)
    check_damping(damping)
    return Pruned(*sweep(weight, statistics.gram, damping, pattern=checked_pattern(pattern), grid=grid))


def check_damping(damping: float) -> None:
    """Raises RecipeError unless `damping` makes every gram matrix regular."""
    number("damping", damping, 0, error=RecipeError, above=True)

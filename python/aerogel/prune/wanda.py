"""Wanda: |w| times the norm of its input (Sun et al., arXiv 2306.11695).

    score[n,k] = |w[n,k]| * sqrt(mean_t x[t,k]^2)

The norm of a weight's contribution to the output, were the inputs uncorrelated. As in the paper, scores compete within an
output row, since those of two rows say nothing about each other's outputs; every row keeps the same number of weights (to
one).
"""

from __future__ import annotations

import numpy as np

from aerogel.calibrate.statistics import Statistics
from aerogel.prune.contract import Pruned, checked_inputs, checked_pattern, checked_weight, removed
from aerogel.prune.pattern import Pattern


def wanda_score(weight: np.ndarray, statistics: Statistics | None) -> np.ndarray:
    """|w| * norm of the input, float32 [N,K]."""
    weight, statistics = checked_inputs(weight, statistics)
    score: np.ndarray = np.abs(weight) * statistics.norms
    return score


def wanda(weight: np.ndarray, statistics: Statistics | None, pattern: Pattern, *, per_row: bool = True) -> Pruned:
    """Keeps the largest scores of each row (`per_row=False`: of the matrix) that the pattern allows.

    Args:
        weight: float32 [N,K], finite.
        statistics: what calibration saw at the input [., K].
        pattern: how many may stay, and where.
        per_row: False lets rows compete, so that some keep more weights than others.
    """
    mask = checked_pattern(pattern).keep(wanda_score(weight, statistics), per_row=per_row)
    return removed(checked_weight(weight), mask)

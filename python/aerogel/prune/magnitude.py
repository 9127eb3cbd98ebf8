"""Magnitude pruning: removes the weights of least magnitude (Han et al., arXiv 1506.02626)."""

from __future__ import annotations

import numpy as np

from aerogel.prune.contract import Pruned, check_weight, removed
from aerogel.prune.pattern import Pattern


def magnitude_score(weight: np.ndarray, statistics: object = None) -> np.ndarray:
    """|w|, float32 [N,K]. Statistics are not used."""
    check_weight(weight)
    score: np.ndarray = np.abs(weight)
    return score


def magnitude(weight: np.ndarray, statistics: object, pattern: Pattern) -> Pruned:
    """Keeps the largest |w| that the pattern allows.

    Args:
        weight: float32 [N,K], finite.
        statistics: not used.
        pattern: how many may stay, and where.
    """
    return removed(weight, pattern.keep(magnitude_score(weight)))

"""Magnitude pruning: removes the weights of least magnitude (Han et al., arXiv 1506.02626)."""

from __future__ import annotations

import numpy as np

from aerogel.prune.contract import Pruned, checked_pattern, checked_weight, removed
from aerogel.prune.pattern import Pattern


def magnitude_score(weight: np.ndarray, statistics: object = None) -> np.ndarray:
    """|w|, float32 [N,K]. Statistics are not used."""
    score: np.ndarray = np.abs(checked_weight(weight))
    return score


def magnitude(weight: np.ndarray, statistics: object, pattern: Pattern) -> Pruned:
    """Keeps the largest |w| that the pattern allows.

    Args:
        weight: float32 [N,K], finite.
        statistics: not used.
        pattern: how many may stay, and where.
    """
    return removed(checked_weight(weight), checked_pattern(pattern).keep(magnitude_score(weight)))

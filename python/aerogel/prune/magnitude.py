"""Magnitude pruning: the weights nearest to zero go (Han et al., arXiv 1506.02626)."""

from __future__ import annotations

import numpy as np

from aerogel.errors import DataError, ShapeError
from aerogel.prune.pattern import Pattern


def magnitude(weight: np.ndarray, pattern: Pattern) -> np.ndarray:
    """The mask that keeps the largest |w| that the pattern allows.

    Args:
        weight: float32 [N,K], finite.
        pattern: how many may stay, and where.

    Returns:
        bool [N,K], True where the weight is kept.
    """
    if weight.ndim != 2:
        raise ShapeError(f"weight: expected [N, K], got {list(weight.shape)}")
    score = np.abs(weight)
    if not np.isfinite(score.max(initial=0)):
        raise DataError("weight: holds NaN or infinite values")
    return pattern.keep(score)

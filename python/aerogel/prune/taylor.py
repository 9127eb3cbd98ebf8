"""First-order estimate of the change of the loss if a weight is removed (Molchanov et al., arXiv 1611.06440).

score[n,k] = |w[n,k] * dL/dw[n,k]|        L: the loss on a validation set, or any other
"""

from __future__ import annotations

import numpy as np

from aerogel._util.checks import float32
from aerogel.errors import DataError, ShapeError
from aerogel.prune.contract import Pruned, checked_pattern, checked_weight, removed
from aerogel.prune.pattern import Pattern


def taylor_score(weight: np.ndarray, gradient: np.ndarray | None) -> np.ndarray:
    """|w * dL/dw|, float32 [N,K]."""
    weight = checked_weight(weight)
    if gradient is None:
        raise DataError("gradient: this method needs dL/dw of the layer, got None")
    gradient = float32("gradient", gradient)
    if gradient.shape != weight.shape:
        raise ShapeError(f"gradient: expected {list(weight.shape)}, got {list(gradient.shape)}")
    score: np.ndarray = np.abs(weight * gradient)
    if not np.isfinite(score.max(initial=0)):
        raise DataError("gradient: holds NaN or infinite values")
    return score


def taylor(weight: np.ndarray, gradient: np.ndarray | None, pattern: Pattern) -> Pruned:
    """Keeps the weights whose removal would change the loss the most.

    Args:
        weight: float32 [N,K], finite.
        gradient: float32 [N,K], dL/dw: the mean over a set of examples, or the root of the mean square over them.
        pattern: how many may stay, and where.
    """
    return removed(checked_weight(weight), checked_pattern(pattern).keep(taylor_score(weight, gradient)))

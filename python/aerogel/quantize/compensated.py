"""Error-compensated rounding: GPTQ (Frantar et al., arXiv 2210.17323), for any grid and any mask.

Each column is rounded to the nearest codes and later columns compensate for the error, so that the layer's output, not
each weight, is near the original.
"""

from __future__ import annotations

import numpy as np

from aerogel.errors import DataError, ShapeError
from aerogel.prune.contract import checked_weight
from aerogel.prune.obs import check_damping
from aerogel.prune.sweep import Rounds, damped, inverse_factor, sweep
from aerogel.quantize.descent import descend


def importance_of(gram: np.ndarray, damping: float = 0.01) -> np.ndarray:
    """The cost of an error in each column after all others have compensated for it: 1 / diag(H^-1), float32 [K].

    The saliency of OBS (Hassibi and Stork, 1993), with H = gram + damping.
    """
    factor = inverse_factor(damped(gram, damping))  # H^-1 = U^T U
    cost: np.ndarray = 1 / np.square(factor).sum(axis=0)
    return cost.astype(np.float32)


def compensated(
    weight: np.ndarray,
    mask: np.ndarray | None,
    gram: np.ndarray,
    grid: Rounds,
    damping: float = 0.01,
    ordered: bool = True,
    passes: int = 2,
) -> np.ndarray:
    """The matrix rounded to the grid so that tr((W-V) gram (W-V)^T) is small.

    Args:
        weight: float32 [N,K], finite.
        mask: bool [N,K], False where the result is 0; None if all weights stay.
        gram: float32 [K,K] of the inputs; may be singular.
        grid: what values are representable.
        damping: fraction of the mean diagonal of gram that is added to it.
        ordered: take the inputs with the largest mean square first, instead of from left to right.
        passes: of coordinate descent afterwards; with 0 and without the order this is GPTQ as published.

    Returns:
        float32 [N,K], on the grid where the mask is True and 0 elsewhere.
    """
    weight = checked_weight(weight)
    check_damping(damping)
    k = weight.shape[1]
    if gram.shape != (k, k):
        raise ShapeError(f"gram: expected {[k, k]}, got {list(gram.shape)}")
    if not np.isfinite(gram.sum(dtype=np.float64)):
        raise DataError("gram: holds NaN or infinite values")
    if mask is not None and (mask.shape != weight.shape or mask.dtype != bool):
        raise ShapeError(f"mask: expected bool {list(weight.shape)}, got {mask.dtype} {list(mask.shape)}")
    order = np.argsort(-gram.diagonal(), kind="stable") if ordered else None
    value = sweep(weight, gram, damping, mask=mask, grid=grid, order=order)[0]
    return descend(weight, value, damped(gram, damping).astype(np.float32), mask, grid, passes) if passes else value

"""Coordinate descent on a grid: each column moves to the codes that are best while all others stay as they are.

    minimise tr((W - V) H (W - V)^T)        v_j <- round(v_j + ((W - V) H)_j / H[j,j])

The error never rises (QuantEase, Behdin et al., arXiv 2309.01885). Rounding with compensation ends with columns that had
nobody left to make good for them, and takes pruned columns for ones that could; a pass or two over it mends both.
"""

from __future__ import annotations

import numpy as np

from aerogel.prune.sweep import BLOCK, Rounds


def descend(
    weight: np.ndarray, value: np.ndarray, h: np.ndarray, mask: np.ndarray | None, grid: Rounds, passes: int
) -> np.ndarray:
    """A better rounding.

    Args:
        weight: float32 [N,K], the target.
        value: float32 [N,K], where to start: on the grid, 0 outside the mask.
        h: float32 [K,K], positive definite.
        mask: bool [N,K], or None if all weights stay.
        grid: what values are representable.
        passes: how often each column is looked at.

    Returns:
        float32 [N,K], on the grid in the mask, 0 outside.
    """
    n, k = weight.shape
    values, missing = np.array(value.T, order="C"), np.array((weight - value).T, order="C")  # [K,N]: V and W - V
    keep = None if mask is None else np.array(mask.T, order="C")
    for _ in range(passes):
        for begin in range(0, k, BLOCK):
            end = min(k, begin + BLOCK)
            slope = h[begin:end] @ missing  # ((W - V) H) of the block
            for j in range(begin, end):
                best = values[j] + slope[j - begin] / h[j, j]
                new = grid.round(best[:, None], j)[:, 0]
                if keep is not None:
                    new = np.where(keep[j], new, np.float32(0))
                change = new - values[j]
                if change.any():
                    slope[j - begin + 1 :] -= h[j + 1 : end, j, None] * change
                    values[j] = new
                    missing[j] -= change
    return np.ascontiguousarray(values.T)

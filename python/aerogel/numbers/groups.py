"""Groups of columns of a matrix [N,K]: `group` columns each, the last one may have fewer."""

from __future__ import annotations

import numpy as np


def in_groups(weight: np.ndarray, group: int) -> np.ndarray:
    """[N,K] as [N, ceil(K/group), group]; what the last group lacks is 0."""
    n, k = weight.shape
    lacking = -k % group
    padded = np.pad(weight, ((0, 0), (0, lacking))) if lacking else weight
    return padded.reshape(n, (k + lacking) // group, group)


def per_column(values: np.ndarray, group: int, columns: int, begin: int = 0) -> np.ndarray:
    """What each group has, [N, groups], for each of the columns from `begin` on, [N, columns]; as [N, 1] where that is
    the same for all of them. Group 0: there is one.
    """
    if values.ndim == 1:
        return values[:, None]
    if not group:
        return values
    first, last = begin // group, (begin + columns - 1) // group
    return values[:, first : first + 1] if first == last else values[:, np.arange(begin, begin + columns) // group]

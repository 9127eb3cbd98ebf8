"""Choosing exactly so many of the largest scores, the first among equals."""

from __future__ import annotations

import numpy as np


def kept_count(size: int, sparsity: float) -> int:
    """How many of `size` stay."""
    return size - round(sparsity * size)


def largest(score: np.ndarray, sparsity: float) -> np.ndarray:
    """bool of the score's shape: all but round(sparsity * size) scores, the largest."""
    return first_largest(score.reshape(1, -1), kept_count(score.size, sparsity)).reshape(score.shape)


def largest_of_rows(score: np.ndarray, sparsity: float) -> np.ndarray:
    """The same in all, but every row keeps the same number, to one."""
    rows = score.shape[0]
    counts = np.diff(kept_count(score.size, sparsity) * np.arange(rows + 1) // max(1, rows))
    mask = np.empty(score.shape, bool)
    for count in np.unique(counts):  # at most two different ones
        mask[counts == count] = first_largest(score[counts == count], int(count))
    return mask


def first_largest(score: np.ndarray, count: int) -> np.ndarray:
    """bool [R,C]: exactly the `count` largest of each row; among equals the first."""
    width = score.shape[1]
    if count <= 0 or count >= width:
        return np.full(score.shape, count > 0)
    threshold = np.partition(score, width - count, axis=1)[:, width - count, None]
    mask = score > threshold
    short = count - np.count_nonzero(mask, axis=1)  # places left for scores equal to the threshold, at least one
    equal = score == threshold
    over = np.flatnonzero(np.count_nonzero(equal, axis=1) > short)
    if over.size:
        equal[over] &= np.cumsum(equal[over], axis=1) <= short[over, None]
    chosen: np.ndarray = mask | equal
    return chosen

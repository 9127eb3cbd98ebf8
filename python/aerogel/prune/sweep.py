"""One pass over the columns of a matrix, in which later columns compensate for the error of each.

Both pruning (SparseGPT, arXiv 2301.00774) and rounding (GPTQ, arXiv 2210.17323) work this way. With H = gram + damping,
upper triangular U with H^-1 = U^T U, and column k to be replaced by q (0 where pruned, the nearest code where rounded):

    e = (w_k - q) / U[k,k]        w_j -= e U[k,j]   for all j > k

the optimal compensation by the columns after k, for all rows at once. Columns are processed in blocks: one by one inside
a block, and the columns after it with one matrix product.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from aerogel.prune.pattern import Pattern

#: Columns of a block.
BLOCK = 128


class Rounds(Protocol):
    """The part of a quantization grid that is needed here."""

    def round(self, weight: np.ndarray, begin: int) -> np.ndarray:
        """The nearest representable values of columns begin.. of a matrix, float32 [N,C]."""
        ...


def damped(gram: np.ndarray, damping: float) -> np.ndarray:
    """float64 [K,K]: gram with `damping` times its mean diagonal added to the diagonal; never singular."""
    h = gram.astype(np.float64)
    mean = float(h.diagonal().mean()) if h.size else 0.0
    h.flat[:: h.shape[0] + 1] += damping * mean if mean > 0 else 1.0
    return h


def inverse_factor(h: np.ndarray) -> np.ndarray:
    """Upper triangular U with h^-1 = U^T U, float64 [K,K].

    h = R R^T with R upper triangular is Cholesky from the last column to the first, and U = R^-1: no inverse of h.
    """
    upper = np.linalg.cholesky(h[::-1, ::-1])[::-1, ::-1]
    return _inverse_of_upper(upper)


def sweep(
    weight: np.ndarray,
    gram: np.ndarray,
    damping: float,
    pattern: Pattern | None = None,
    mask: np.ndarray | None = None,
    grid: Rounds | None = None,
    order: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Prunes or rounds a matrix, or both.

    Args:
        weight: float32 [N,K].
        gram: float32 [K,K] of the inputs.
        damping: fraction of the mean diagonal of gram that is added to it.
        pattern: prune to it, with the mask chosen during the pass; weights that are 0 stay 0.
        mask: bool [N,K], the weights to keep, instead of a pattern.
        grid: the quantization grid to round to.
        order: the order in which columns are taken, without a pattern; from left to right unless given.

    Returns:
        The new values, float32 [N,K], and their mask, bool [N,K].
    """
    n, k = weight.shape
    h = damped(gram, damping)
    left = np.array(weight.T, np.float32, order="C")  # [K,N]: a column of the matrix is one run of memory
    keep = np.ones((k, n), bool) if mask is None else np.array(mask.T, order="C")
    columns = np.arange(k) if order is None else order
    if order is not None:
        h, left, keep = h[np.ix_(order, order)], left[order], keep[order]
    factor = inverse_factor(h).astype(np.float32)
    del h
    choose = None if pattern is None else _Chooser(pattern, left, keep, factor.diagonal().copy())
    block = BLOCK if choose is None else max(choose.step, BLOCK - BLOCK % choose.step)
    errors, product = np.empty((block, n), np.float32), np.empty((block, n), np.float32)
    for begin in range(0, k, block):
        end = min(k, begin + block)
        for i in range(begin, end):
            if choose is not None and (i - begin) % choose.step == 0:
                choose(i, min(end, i + choose.step))
            new = np.where(keep[i], left[i], np.float32(0))
            if grid is not None:
                new = np.where(keep[i], grid.round(new[:, None], int(columns[i]))[:, 0], np.float32(0))
            error = errors[i - begin]
            np.subtract(left[i], new, out=error)
            error /= factor[i, i]
            left[i] = new
            if i + 1 < end:
                rest = product[: end - i - 1]
                np.multiply(factor[i, i + 1 : end, None], error, out=rest)
                left[i + 1 : end] -= rest
        if end < k:
            left[end:] -= factor[begin:end, end:].T @ errors[: end - begin]
    if order is not None:
        back = np.argsort(order)
        left, keep = left[back], keep[back]
    return np.ascontiguousarray(left.T), np.ascontiguousarray(keep.T)


class _Chooser:
    """Chooses what stays by a pattern, some columns at a time, from the values that they have by then.

    `left` and `keep` are [K,N], and `keep` is written to.
    """

    def __init__(self, pattern: Pattern, left: np.ndarray, keep: np.ndarray, diagonal: np.ndarray) -> None:
        self.step = pattern.step(BLOCK)
        self._pattern, self._left, self._keep, self._diagonal = pattern, left, keep, diagonal
        self._zero = left == 0

    def __call__(self, begin: int, end: int) -> None:
        score = np.abs(self._left[begin:end])
        score[self._zero[begin:end]] = 0  # what earlier columns moved there is not theirs
        score /= self._diagonal[begin:end, None]
        k, n = self._left.shape
        self._keep[begin:end] = self._pattern.part(begin, end, (n, k)).keep(score.T).T
        self._keep[begin:end] &= ~self._zero[begin:end]


def _inverse_of_upper(upper: np.ndarray) -> np.ndarray:
    k = upper.shape[0]
    if k <= 64:
        return np.triu(np.linalg.inv(upper)) if k else upper.copy()
    half = k // 2
    first, last = _inverse_of_upper(upper[:half, :half]), _inverse_of_upper(upper[half:, half:])
    inverse = np.zeros((k, k))
    inverse[:half, :half], inverse[half:, half:] = first, last
    inverse[:half, half:] = -(first @ (upper[:half, half:] @ last))
    return inverse

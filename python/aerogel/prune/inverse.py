"""The inverse of a symmetric positive definite matrix from its Cholesky factor, nearly all in matrix products: faster than
LAPACK's general one, which pivots, and as exact.

    H = L L^T        H^-1 = X^T X with X = L^-1        L = [A  0]        X = [   A^-1           0  ]
                                                           [B  C]            [-C^-1 B A^-1    C^-1 ]

L and X are made together by halves: with H = [P Q^T; Q R] and A of P, B = Q A^-T, and C of R - B B^T. Inverting H itself by
halves would be faster still, and wrong: each level multiplies errors by the square of its condition.
"""

from __future__ import annotations

import numpy as np

from aerogel.prune.products import product

#: Matrices that are no larger go to LAPACK.
SMALL = 96


def inverse(h: np.ndarray) -> np.ndarray:
    """The inverse of float [K,K], symmetric and positive definite but for rounding, in its own type; symmetric."""
    if not len(h):
        empty: np.ndarray = h.copy()
        return empty
    try:
        x = inverse_factor(h)
    except np.linalg.LinAlgError:  # not definite: rounding where inputs depend on each other
        general: np.ndarray = np.linalg.inv(h)
        return general
    return _square(x)


def divided(rows: np.ndarray, h: np.ndarray) -> np.ndarray:
    """rows H^-1, float [N,K], without the inverse itself."""
    try:
        x = inverse_factor(h)
    except np.linalg.LinAlgError:
        general: np.ndarray = rows @ np.linalg.inv(h)
        return general
    return product(product(rows, x.T), x)


def inverse_factor(h: np.ndarray) -> np.ndarray:
    """X = L^-1, lower triangular.

    Raises:
        LinAlgError: h is not definite.
    """
    x = np.zeros_like(h)
    _factor(h, x)
    return x


def _factor(h: np.ndarray, x: np.ndarray) -> None:
    """Writes L^-1 into `x`, which is 0."""
    k = len(h)
    if k <= SMALL:
        x[:] = np.tril(np.linalg.inv(np.linalg.cholesky(h)))
        return
    half = k // 2
    a, b = slice(0, half), slice(half, k)
    _factor(h[a, a], x[a, a])
    below = product(h[b, a], x[a, a].T)
    _factor(h[b, b] - product(below, below.T), x[b, b])
    np.negative(product(x[b, b], product(below, x[a, a])), out=x[b, a])


def _square(x: np.ndarray) -> np.ndarray:
    """X^T X of a lower triangular X: half of it is products with zeros, which are left out."""
    k = len(x)
    if k <= 4 * SMALL:
        small: np.ndarray = x.T @ x
        return small
    half = k // 2
    a, b = slice(0, half), slice(half, k)
    found = np.empty_like(x)
    found[b, b] = _square(x[b, b])
    product(x[b, b].T, x[b, a], out=found[b, a])
    found[a, b] = found[b, a].T
    found[a, a] = _square(x[a, a])
    found[a, a] += x[b, a].T @ x[b, a]
    return found

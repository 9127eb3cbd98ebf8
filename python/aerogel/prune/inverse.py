"""The inverse of a symmetric positive definite matrix from its Cholesky factor, nearly all in matrix products: faster than
LAPACK's general one, which pivots, and as exact.

    H = L L^T        H^-1 = X^T X with X = L^-1        [A  0]^-1     [   A^-1           0  ]
                                                       [B  C]     =  [-C^-1 B A^-1    C^-1 ]

Inverting H itself by halves would be faster still, and wrong: each level multiplies errors by the square of its condition.
"""

from __future__ import annotations

import numpy as np

#: Triangles that are no larger go to LAPACK.
SMALL = 64


def inverse(h: np.ndarray) -> np.ndarray:
    """The inverse of float [K,K], symmetric and positive definite but for rounding, in its own type; symmetric."""
    if not len(h):
        return h.copy()
    try:
        lower = np.linalg.cholesky(h)
    except np.linalg.LinAlgError:  # not definite: rounding where inputs depend on each other
        general: np.ndarray = np.linalg.inv(h)
        return general
    x = _inverse_of_lower(lower)
    found: np.ndarray = x.T @ x
    return found


def _inverse_of_lower(lower: np.ndarray) -> np.ndarray:
    k = len(lower)
    if k <= SMALL:
        small: np.ndarray = np.tril(np.linalg.inv(lower))
        return small
    half = k // 2
    found = np.zeros_like(lower)
    found[:half, :half] = first = _inverse_of_lower(lower[:half, :half])
    found[half:, half:] = second = _inverse_of_lower(lower[half:, half:])
    np.negative(second @ (lower[half:, :half] @ first), out=found[half:, :half])
    return found

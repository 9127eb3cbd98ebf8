"""Matrix products in pieces that `workers` do side by side, and that are the same on any number of them."""

from __future__ import annotations

import numpy as np

from aerogel._util.workers import cut, each

#: Products of fewer multiplications are not cut, others into so many pieces.
SMALL, PIECES = 1 << 26, 4


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """a [N,K] times b [K,M], along what is longer: BLAS packs the whole of what is not cut for every piece."""
    n, k, m = *a.shape, b.shape[1]
    found = np.empty((n, m), np.result_type(a, b)) if out is None else out
    if n * k * m < SMALL:
        return np.matmul(a, b, out=found)
    if n > m:
        each(lambda at: np.matmul(a[at], b, out=found[at]), cut(n, -(-n // PIECES)))
    else:
        each(lambda at: np.matmul(a, b[:, at], out=found[:, at]), cut(m, -(-m // PIECES)))
    return found

"""int8, symmetric, one scale per output channel (an embedding: per row).

    scale[n] = max_k |w[n,k]| / 127        code[n,k] = round_half_even(w[n,k] / scale[n])   in [-127, 127]

A row of zeros has scale 0 and codes 0; so has one so small that its scale is not a normal float.
"""

from __future__ import annotations

import numpy as np

from aerogel.errors import DataError, ShapeError
from aerogel.quantize.base import Quantized

LARGEST = 127


def int8(weight: np.ndarray) -> Quantized:
    """Codes and scales of float32 [N,K], finite."""
    if weight.ndim != 2:
        raise ShapeError(f"weight: expected [N, K], got {list(weight.shape)}")
    largest = np.maximum(weight.max(axis=1, initial=0), -weight.min(axis=1, initial=0)).astype(np.float32)
    if not np.isfinite(largest).all():
        raise DataError("weight: holds NaN or infinite values")
    scale = largest / np.float32(LARGEST)
    scale[scale < np.finfo(np.float32).tiny] = 0
    codes = np.divide(weight, scale[:, None], out=np.zeros(weight.shape, np.float32), where=scale[:, None] > 0)
    np.rint(codes, out=codes)
    return Quantized(np.clip(codes, -LARGEST, LARGEST, out=codes).astype(np.int8), scale)

"""bf16: the upper half of each float32, rounded to nearest, ties to even. No scale; at most 2^-8 of a weight is lost.

A weight beyond the largest bf16 (3.39e38) becomes that; one nearer to 0 than half the smallest (4.6e-41) becomes 0.
"""

from __future__ import annotations

import numpy as np

from aerogel.bf16 import narrow
from aerogel.errors import DataError, ShapeError
from aerogel.quantize.base import Quantized


def bf16(weight: np.ndarray) -> Quantized:
    """Codes of float32 [N,K], finite."""
    if weight.ndim != 2:
        raise ShapeError(f"weight: expected [N, K], got {list(weight.shape)}")
    if not np.isfinite(weight).all():
        raise DataError("weight: holds NaN or infinite values")
    return Quantized(narrow(weight), None)

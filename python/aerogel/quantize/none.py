"""No quantization: float32 as it is."""

from __future__ import annotations

import numpy as np

from aerogel.quantize.base import Quantized


def none(weight: np.ndarray) -> Quantized:
    """The weight itself, float32 [N,K]."""
    return Quantized(np.ascontiguousarray(weight, np.float32), None)

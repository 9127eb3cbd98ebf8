"""bf16: the upper half of each float32, rounded to nearest, ties to even. No scale; at most 2^-8 of a weight is lost.

A weight beyond the largest bf16 (3.39e38) becomes that; one nearer to 0 than half the smallest (4.6e-41) becomes 0.
"""

from __future__ import annotations

import numpy as np

from aerogel.numbers.bf16 import narrow, widen
from aerogel.quantize.grid import Grid, Quantized, Scheme, checked


class Bf16(Scheme, Grid):
    """One grid serves every matrix."""

    name = "bf16"

    def grid(self, weight: np.ndarray, importance: np.ndarray | None = None) -> Grid:
        checked(weight)
        return self

    def round(self, weight: np.ndarray, begin: int) -> np.ndarray:
        return widen(narrow(weight))

    def quantize(self, weight: np.ndarray) -> Quantized:
        return Quantized(narrow(checked(weight)), None)

"""No quantization: float32 as it is."""

from __future__ import annotations

import numpy as np

from aerogel.quantize.grid import Grid, Quantized, Scheme, checked


class Unquantized(Scheme, Grid):
    """Every float32 is on the grid."""

    name = "none"

    def grid(self, weight: np.ndarray, importance: np.ndarray | None = None) -> Grid:
        checked(weight)
        return self

    def round(self, weight: np.ndarray, begin: int) -> np.ndarray:
        copied: np.ndarray = weight.copy()
        return copied

    def quantize(self, weight: np.ndarray) -> Quantized:
        return Quantized(checked(weight), None)

"""What a quantization scheme returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aerogel.bf16 import widen


@dataclass(frozen=True)
class Quantized:
    """w[n,k] = values[n,k] * scale[n]; float and bf16 values have no scale.

    Attributes:
        values: int8 [N,K] in [-127, 127], uint16 [N,K] that are bf16, or float32 [N,K].
        scale: float32 [N], or None.
    """

    values: np.ndarray
    scale: np.ndarray | None

    def dense(self) -> np.ndarray:
        """The weights that are run, float32 [N,K]."""
        if self.values.dtype == np.uint16:
            return widen(self.values)
        if self.scale is None:
            return self.values
        return self.values.astype(np.float32) * self.scale[:, None]

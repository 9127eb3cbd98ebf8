"""What a quantization scheme returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Quantized:
    """w[n,k] = values[n,k] * scale[n]; float values have no scale.

    Attributes:
        values: int8 [N,K] in [-127, 127], or float32 [N,K].
        scale: float32 [N], or None.
    """

    values: np.ndarray
    scale: np.ndarray | None

    def dense(self) -> np.ndarray:
        """The weights that are run, float32 [N,K]."""
        if self.scale is None:
            return self.values
        return self.values.astype(np.float32) * self.scale[:, None]

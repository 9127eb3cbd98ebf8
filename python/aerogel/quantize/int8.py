"""int8, symmetric, one scale per output channel (an embedding: per row), or per group of columns of it:

    scale[n,g] = max_k |w[n,k]| / 127      code[n,k] = round_half_even(w[n,k] / scale[n,g])   in [-127, 127]

with k over the row or over the group g. What is all zeros has scale 0 and codes 0; so has what is so small that its
scale is not a normal float.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aerogel.numbers.groups import in_groups, per_column
from aerogel.numbers.int8 import LARGEST
from aerogel.quantize.grid import Grid, Quantized, Scheme, checked, largest


@dataclass(frozen=True)
class Int8Grid(Grid):
    """scale: float32 [N], or [N, ceil(K/group)]."""

    scale: np.ndarray
    group: int

    def round(self, weight: np.ndarray, begin: int) -> np.ndarray:
        scale = per_column(self.scale, self.group, weight.shape[1], begin)
        rounded: np.ndarray = self._codes(weight, begin) * scale
        return rounded

    def quantize(self, weight: np.ndarray) -> Quantized:
        return Quantized(self._codes(checked(weight), 0).astype(np.int8), self.scale, self.group)

    def _codes(self, weight: np.ndarray, begin: int) -> np.ndarray:
        scale = per_column(self.scale, self.group, weight.shape[1], begin)
        codes: np.ndarray = np.divide(weight, scale, out=np.zeros(weight.shape, np.float32), where=scale > 0)
        np.rint(codes, out=codes)
        return np.clip(codes, -LARGEST, LARGEST, out=codes)


@dataclass(frozen=True, repr=False)
class Int8(Scheme):
    """`group` columns share a scale; 0: the row does."""

    group: int = 0

    @property
    def name(self) -> str:
        return f"int8:g{self.group}" if self.group else "int8"

    def grid(self, weight: np.ndarray, importance: np.ndarray | None = None) -> Int8Grid:
        weight = checked(weight)
        scale = largest(in_groups(weight, self.group) if self.group else weight) / np.float32(LARGEST)
        scale[scale < np.finfo(np.float32).tiny] = 0
        return Int8Grid(scale, self.group)

"""A matrix in blocks of quantized weights, as a GGUF file has it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aerogel._core import block_types
from aerogel.errors import ShapeError


@dataclass(frozen=True, eq=False)
class Blocks:
    """A matrix w[N,K] in blocks that the engine runs as they are.

    Attributes:
        shape: (N, K); K is a multiple of the columns of a block.
        values: uint8 [N, bytes of a row].
        type: ggml's name, a key of `aerogel._core.block_types`.
    """

    shape: tuple[int, int]
    values: NDArray[np.uint8]
    type: str

    def __post_init__(self) -> None:
        n, k = self.shape
        columns, size = block_types()[self.type]
        if k % columns or self.values.shape != (n, k // columns * size):
            raise ShapeError(
                f"blocks of type {self.type}: expected [{n}, {k // columns * size}] bytes and a multiple of {columns} "
                f"columns, got {list(self.values.shape)} and {k}"
            )

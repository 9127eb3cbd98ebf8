"""What every quantization scheme offers: a grid of values for the weights, and their codes on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from aerogel._util.checks import float32
from aerogel.errors import DataError, ShapeError
from aerogel.numbers.bf16 import widen
from aerogel.numbers.groups import per_column

#: Elements that are worked on at once: what stands beside a matrix meanwhile is small, and the allocator keeps none of it.
BLOCK = 1 << 15


def block_rows(columns: int) -> int:
    """Rows of a block."""
    return max(1, BLOCK // max(1, columns))


@dataclass(frozen=True)
class Quantized:
    """w[n,k] = values[n,k] * scale[n]; float and bf16 values have no scale.

    Codes may come from a table, and are then stored as indices of it: with g = k // group

        values[n,k] = levels[index[n,k]] * multiplier[n,g] + offset[n,g]

    The index is not kept, since it follows from the code. A code 0 need not be in the table: it is left out behind a
    mask.

    Attributes:
        values: int8 [N,K] in [-127, 127], uint16 [N,K] that are bf16, or float32 [N,K].
        scale: float32 [N], or [N, ceil(K/group)] for int8 without levels but with a group, or None.
        group: columns that share a scale or a multiplier; 0: the whole row does.
        levels: int8 [2..256], rising; None: codes are stored as they are.
        multiplier: uint8 [N, ceil(K/group)], or None: 1.
        offset: int8 [N, ceil(K/group)], or None: 0.
    """

    values: np.ndarray
    scale: np.ndarray | None
    group: int = 0
    levels: np.ndarray | None = None
    multiplier: np.ndarray | None = None
    offset: np.ndarray | None = None

    def dense(self) -> np.ndarray:
        """The weights that are run, float32 [N,K]."""
        if self.values.dtype == np.uint16:
            return widen(self.values)
        if self.scale is None:
            return self.values
        scaled: np.ndarray = self.values.astype(np.float32) * per_column(self.scale, self.group, self.values.shape[1])
        return scaled


class Grid(ABC):
    """The values that the weights of one matrix may take. Immutable; 0 is always one of them."""

    @abstractmethod
    def round(self, weight: np.ndarray, begin: int) -> np.ndarray:
        """The nearest value for each of float32 [N,C], which are columns begin to begin + C of the matrix; 0 stays 0.

        What it returns is exactly what `quantize` of it stores.
        """

    @abstractmethod
    def quantize(self, weight: np.ndarray) -> Quantized:
        """The whole matrix, float32 [N,K], on the grid: a weight becomes the code of the value nearest to it."""


class Rows:
    """A matrix [N,K] as blocks of its rows, which are made anew each time that they are gone through.

    Args:
        shape: (N, K).
        read: called with the rows of a block, gives the blocks in turn, float32.
    """

    def __init__(self, shape: tuple[int, int], read: Callable[[int], Iterable[np.ndarray]]) -> None:
        self.shape = shape
        self._read = read

    @classmethod
    def of(cls, weight: np.ndarray) -> Rows:
        """A matrix that is in memory."""
        n, k = weight.shape
        return cls((n, k), lambda rows: (weight[begin : begin + rows] for begin in range(0, n, rows)))

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Which rows they are, and the rows."""
        begin = 0
        for block in self._read(block_rows(self.shape[1])):
            yield slice(begin, begin + len(block)), block
            begin += len(block)
        assert begin == self.shape[0]


class Scheme(ABC):
    """A way to store weights in few bits.

    Attributes:
        by_rows: the grid of a row, and so its codes, follow from that row alone: a part of a matrix may be quantized by
            itself.
    """

    by_rows: ClassVar[bool] = True

    @property
    @abstractmethod
    def name(self) -> str:
        """What `scheme` calls it."""

    @abstractmethod
    def grid(self, weight: np.ndarray, importance: np.ndarray | None = None) -> Grid:
        """Fits the grid to finite float32 [N,K]. Zeros have no part in it: they are on every grid.

        Args:
            weight: the matrix.
            importance: float32 [K], not negative: how much the squared error of a column counts; None: all alike. A grid
                that follows from the largest weights has no use for it.

        Raises:
            ShapeError: it is not a matrix, or there is not one importance a column.
            DataError: it holds NaN or infinite values.
        """

    def __call__(self, weight: np.ndarray) -> Quantized:
        """The weight, float32 [N,K], on its own grid."""
        return self.grid(weight).quantize(weight)

    def streamed(self, weight: Rows) -> Quantized:
        """The same of a matrix that is read a few rows at a time, as often as it takes."""
        return self(np.concatenate([block for _, block in weight]))

    def __repr__(self) -> str:
        return f"<quantization scheme {self.name}>"


def checked(weight: np.ndarray) -> np.ndarray:
    """The weight as contiguous float32 [N,K], or the error that `Scheme.grid` promises."""
    weight = np.ascontiguousarray(float32("weight", weight, 2))
    if not weight.shape[1] and len(weight):
        raise ShapeError(f"weight: expected [N, K], got {list(weight.shape)}")
    if not np.isfinite(largest(weight)).all():
        raise DataError("weight: holds NaN or infinite values")
    return weight


def checked_importance(importance: np.ndarray | None, columns: int) -> np.ndarray | None:
    """The importance as float32 [K], the largest 1; None where all columns count alike."""
    if importance is None:
        return None
    importance = float32("importance", importance)
    if importance.shape != (columns,):
        raise ShapeError(f"importance: expected [{columns}], one a column, got {list(importance.shape)}")
    most = float(importance.max(initial=0))
    if not np.isfinite(most) or importance.min(initial=0) < 0:
        raise DataError("importance: holds negative, NaN or infinite values")
    return (importance / most).astype(np.float32) if most > 0 else None


def largest(weight: np.ndarray) -> np.ndarray:
    """max |w| over the last axis, without a temporary of its size; NaN where there is one."""
    most: np.ndarray = np.maximum(weight.max(axis=-1, initial=0), -weight.min(axis=-1, initial=0))
    return most.astype(np.float32)

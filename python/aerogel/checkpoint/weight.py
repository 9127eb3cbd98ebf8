"""A matrix in its stored form, whatever file it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerogel.errors import DataError, ShapeError
from aerogel.numbers.bf16 import finite, widen
from aerogel.numbers.bits import pack_bits, unpack_bits
from aerogel.numbers.groups import per_column


@dataclass(frozen=True, eq=False)
class Weight:
    """A matrix w[N,K] in canonical form; dense, or only what is stored behind a bit mask. With g = k // group, w is

        float32, 16 bits   the value
        int8               code * scale[n], or scale[n,g] where there are groups
        indices of levels  ((levels[index] - zero[n,g]) * multiplier[n,g] + offset[n,g]) * scale[n]; all but scale[n] is an
                           int8 code

    Attributes:
        shape: (N, K).
        values: float32, float16, uint16 that are bf16, int8 codes in [-127, 127], or, with levels, uint8: indices of `bits`
            each as `aerogel.numbers.bits` packs them. Without a mask [N,K] (indices: [N, ceil(K*bits/8)]); with one, a
            vector of what is stored in row-major order.
        scale: float32 [N] for int8 and for levels, [N, ceil(K/group)] for int8 with groups. None for floats.
        mask: uint8 [N, ceil(K/8)]; bit k%8 of byte k//8 says that column k is stored. None: all are.
        group: columns a group, a multiple of 8; 0: the row is one.
        levels: int8 [at most 2^bits], or None.
        bits: of an index, 1 to 8; 0 without levels.
        multiplier: uint8 [N, groups], with levels only. None: 1.
        zero: int8 [N, groups], with levels only. None: 0.
        offset: int8 [N, groups], with levels only. None: 0.
    """

    shape: tuple[int, int]
    values: NDArray[Any]
    scale: NDArray[np.float32] | None = None
    mask: NDArray[np.uint8] | None = None
    group: int = 0
    levels: NDArray[np.int8] | None = None
    bits: int = 0
    multiplier: NDArray[np.uint8] | None = None
    zero: NDArray[np.int8] | None = None
    offset: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        n, k = self.shape
        indices = self.levels is not None
        expected = (np.uint8,) if indices else (np.float32, np.float16, np.uint16, np.int8)
        if self.values.dtype not in expected:
            what = "uint8 indices" if indices else "float32, float16, uint16 (bf16) or int8 values"
            raise ShapeError(f"weight: expected {what}, got {self.values.dtype}")
        if self.group < 0 or self.group % 8:
            raise ShapeError(f"weight: group: expected a multiple of 8 columns, got {self.group}")
        if indices:
            self._check_levels(-(-k // self.group) if self.group else 1)
        elif self._has_tables or self.bits:
            raise ShapeError("weight: multipliers, zero points, offsets and bits go with levels and only with them")
        if self.mask is None:
            _expect("values", self.values.shape, (n, -(-k * self.bits // 8) if indices else k))
        else:
            _expect("mask", self.mask.shape, (n, -(-k // 8)))
            if self.values.ndim != 1:
                raise ShapeError(f"weight: values behind a mask: expected a vector, got {list(self.values.shape)}")
        if (self.scale is not None) != (indices or self.values.dtype == np.int8):
            raise ShapeError(f"weight: a scale goes with int8 values and only with them, got {self.values.dtype}")
        if self.scale is not None:
            grouped = self.group and not indices
            _expect("scale", self.scale.shape, (n, -(-k // self.group)) if grouped else (n,))
        elif self.group:
            raise ShapeError(f"weight: a group goes with int8 values and levels, got {self.values.dtype}")

    def _check_levels(self, groups: int) -> None:
        assert self.levels is not None
        if not 1 <= self.bits <= 8:
            raise ShapeError(f"weight: bits: expected 1 to 8, got {self.bits}")
        if self.levels.ndim != 1 or not 1 <= self.levels.size <= 1 << self.bits:
            raise ShapeError(f"weight: levels: expected 1 to {1 << self.bits}, got {list(self.levels.shape)}")
        for name, array in (("multiplier", self.multiplier), ("zero", self.zero), ("offset", self.offset)):
            if array is not None:
                _expect(name, array.shape, (self.shape[0], groups))

    @property
    def _has_tables(self) -> bool:
        return self.multiplier is not None or self.zero is not None or self.offset is not None

    @property
    def numbers(self) -> str:
        """What its kernels compute with: "int8", "int8g" (a scale each group), "bf16", "float16" or "float32"."""
        if self.levels is None and self.values.dtype != np.int8:
            return "bf16" if self.values.dtype == np.uint16 else str(self.values.dtype)
        return "int8g" if self.group and self.levels is None else "int8"

    def indices(self) -> NDArray[np.uint8]:
        """With levels: one byte for each that is stored, [N,K] or a vector."""
        return unpack_bits(self.values, self.bits, self.shape[1] if self.mask is None else int(self._stored().sum()))

    def codes(self, dtype: type[np.signedinteger[Any]] = np.int8) -> NDArray[Any]:
        """int8 [N,K], or wider, of what has a scale. A view of the file where nothing has to be decoded."""
        if self.levels is None:
            return self._dense(self.values)
        codes = self.levels[self.indices()]
        if not self._has_tables:
            return self._dense(codes.astype(dtype, copy=False))
        k = self.shape[1]
        steps = self._dense(codes.astype(np.promote_types(dtype, np.int16)))
        if self.zero is not None:
            steps = steps - per_column(self.zero, self.group, k)
        if self.multiplier is not None:
            steps = steps * per_column(self.multiplier, self.group, k)
        if self.offset is not None:
            steps = steps + per_column(self.offset, self.group, k)
        if self.mask is not None:
            steps[~self._stored()] = 0
        return steps.astype(dtype)

    def dense(self) -> NDArray[np.float32]:
        """The weight as float32 [N,K]. A view of the file where nothing has to be decoded: do not write to it."""
        if self.scale is not None:
            scaled: NDArray[np.float32] = self.codes().astype(np.float32) * per_column(
                self.scale, self.group, self.shape[1]
            )
            return scaled
        values = self._dense(self.values)
        return widen(values) if values.dtype == np.uint16 else values.astype(np.float32, copy=False)

    def rows(self, rows: slice) -> Weight:
        """Some of its rows, which follow each other, in memory of their own."""

        def some(part: NDArray[Any] | None) -> Any:
            return None if part is None else part[rows].copy()

        values = self.values
        if self.mask is not None:  # a vector, row after row
            counts = self._stored().sum(axis=1)
            first = int(counts[: rows.start].sum())
            within = slice(first, first + int(counts[rows].sum()))
            values = pack_bits(self.indices()[within].copy(), self.bits) if self.bits else values[within].copy()
        else:
            values = values[rows].copy()
        return Weight(
            (rows.stop - rows.start, self.shape[1]),
            values,
            some(self.scale),
            some(self.mask),
            self.group,
            self.levels,
            self.bits,
            some(self.multiplier),
            some(self.zero),
            some(self.offset),
        )

    def reordered(self, axis: int, order: NDArray[np.int64]) -> Weight:
        """Its rows (axis 0) or columns (axis 1) in another order, in memory of their own.

        Raises:
            ShapeError: columns that share multipliers or scales by groups, which only their own order keeps together.
        """
        if axis and self.group:
            raise ShapeError(f"weight: columns in groups of {self.group} keep their order")

        if axis:
            values, mask = self._with_columns(order)
            return replace(self, values=values, mask=mask)
        values, mask = self.values, None
        if self.mask is not None:  # a vector, row after row
            elements, mask = self.indices() if self.bits else values, self.mask[order]
            counts = self._stored().sum(axis=1)
            begin, counts = (np.cumsum(counts) - counts)[order], counts[order]
            elements = elements[np.repeat(begin - np.cumsum(counts) + counts, counts) + np.arange(elements.size)]
            values = pack_bits(elements, self.bits) if self.bits else elements
        else:
            values = values[order]

        def moved(part: NDArray[Any] | None) -> Any:
            return None if part is None else part[order]

        others = {"multiplier": moved(self.multiplier), "zero": moved(self.zero), "offset": moved(self.offset)}
        return replace(self, values=values, scale=moved(self.scale), mask=mask, **others)

    def _with_columns(self, order: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
        """Values and mask of the columns in another order."""
        elements, mask = self.indices() if self.bits else self.values, None
        if self.mask is None:
            elements = np.take(elements, order, 1)
        else:  # by index: several times faster than by a mask of booleans
            stored, whole = self._stored(), np.zeros(self.shape, elements.dtype)
            whole.reshape(-1)[np.flatnonzero(stored)] = elements
            stored = np.take(stored, order, 1)
            elements = np.take(whole, order, 1).reshape(-1)[np.flatnonzero(stored)]
            mask = np.packbits(stored, axis=1, bitorder="little")
        return pack_bits(elements, self.bits) if self.bits else elements, mask

    def _stored(self) -> NDArray[np.bool_]:
        assert self.mask is not None
        return np.unpackbits(self.mask, axis=1, count=self.shape[1], bitorder="little").view(bool)

    def _dense(self, stored: NDArray[Any]) -> NDArray[Any]:
        """[N,K] of one element for each that is stored."""
        if self.mask is None:
            return stored
        values = np.zeros(self.shape, stored.dtype)
        values[self._stored()] = stored
        return values

    @property
    def sparsity(self) -> float:
        """The fraction of the N*K elements that are zero."""
        size = self.shape[0] * self.shape[1]
        values = self.values if self.levels is None else self.codes()
        return 1.0 - int(np.count_nonzero(values)) / size if size else 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of all parts together."""
        parts = (self.values, self.scale, self.mask, self.levels, self.multiplier, self.zero, self.offset)
        return sum(part.nbytes for part in parts if part is not None)


def _expect(what: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if got != expected:
        raise ShapeError(f"weight: {what}: expected {list(expected)}, got {list(got)}")


def dense_product(rows: NDArray[np.float32], weights: Sequence[Weight]) -> NDArray[np.float32]:
    """[R, K] times the transposed weights, stacked along N: float32 [R, N]."""
    return np.concatenate([np.asarray(rows @ weight.dense().T, np.float32) for weight in weights], axis=1)


def check_finite(where: str, values: NDArray[Any]) -> None:
    """Raises DataError, with the count, if `values`, floats or bf16 codes, hold NaN or infinity."""
    if values.itemsize == 2:
        flat, some = values.reshape(-1), 1 << 20  # so many at once, for a table is large
        parts = (flat[begin : begin + some] for begin in range(0, flat.size, some))
        tell = finite if values.dtype == np.uint16 else np.isfinite
        _refuse(where, sum(part.size - int(np.count_nonzero(tell(part))) for part in parts), values.size)
        return
    # A sum passes NaN and infinity on, so one pass without temporaries clears nearly every tensor; an overflow of the
    # sum itself is told apart below.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):
            return
    _refuse(where, values.size - int(np.count_nonzero(np.isfinite(values))), values.size)


def _refuse(where: str, bad: int, size: int) -> None:
    if bad:
        raise DataError(f"{where}: expected finite values, got {bad} of {size} that are NaN or infinite")


def check_matrix(where: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape as (N, K), or ShapeError."""
    if len(shape) != 2 or 0 in shape:
        raise ShapeError(f"{where}: expected a matrix [N, K], got {list(shape)}")
    return shape[0], shape[1]

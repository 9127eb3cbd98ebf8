"""Quantized matrices: w[n,k] = (q[n,k] - zero[n,k]) * scale[n,k].

    M.weight             I8, F8_E4M3 or F8_E5M2 [R, C]; or, packed,
    M.weight_packed      I32 [R, words] + M.weight_shape I64 [2]
    M.weight_scale       a float: tensor [1], channel [R, 1], group [R, ceil(C/g)], block [ceil(R/bh), ceil(C/bw)]
    M.weight_zero_point  of the weight's type and the scale's shape; or, packed along the rows, I32 [words, G]
    M.weight_g_idx       I32 [C], the group of each column; any -1: they are in order

Rows with one scale whose integers q - zero lie in [-127, 127] stay codes, which the engine multiplies as they are. Anything
else is decoded to float32; what came behind a bit mask stays behind it, unless zero points make its zeros something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aerogel.checkpoint.compressed_tensors.config import Compression, WeightArgs
from aerogel.checkpoint.compressed_tensors.sparse import Stored
from aerogel.checkpoint.compressed_tensors.unpack import unpack
from aerogel.checkpoint.weight import Weight, check_finite, check_matrix
from aerogel.errors import CheckpointError, DataError, MissingTensorsError, ShapeError, UnsupportedModelError
from aerogel.numbers.bf16 import widen
from aerogel.numbers.fp8 import widen_e4m3, widen_e5m2

#: What stands beside M.weight or in its place.
PARTS = ("weight_packed", "weight_shape", "weight_scale", "weight_zero_point", "weight_g_idx")

_LARGEST = 127
_FLOATS = ("F32", "F16", "BF16")
EIGHT_BIT_FLOATS = {"F8_E4M3": widen_e4m3, "F8_E5M2": widen_e5m2}
_PRESET_GROUP = 128


class Quantized:
    """One quantized matrix. Its parts, types and shapes are checked when it is made, its data when it is decoded."""

    def __init__(self, where: str, parts: Mapping[str, Stored], args: WeightArgs, compression: Compression) -> None:
        self._where = where
        self._parts = parts
        self._args = args
        self._version = compression.version
        if ("weight" in parts) == ("weight_packed" in parts):
            raise CheckpointError(f"{where}: expected weight or weight_packed, got {' and '.join(sorted(parts))}")
        needed = ["weight_scale"] if args.symmetric or args.is_float else ["weight_scale", "weight_zero_point"]
        needed += ["weight_shape"] if "weight_packed" in parts else []
        missing = [f"{where}: {part}" for part in needed if part not in parts]
        if missing:
            raise MissingTensorsError(where, missing)
        self.shape = self._check_weight()
        self._args = args = _with_strategy(args, parts["weight_scale"].shape)
        self._grid = self._scale_shape()
        self._check_scales()

    def weight(self) -> Weight:
        """The matrix as codes where that is exact, else as float32."""
        scale, zero = self._scale(), self._zero()
        stored = self._parts["weight"].sparse() if "weight" in self._parts else None
        if stored is not None and not (zero is not None and zero.any()):
            codes = self._checked(self._numbers(stored[0]))
            kept = self._as_codes(codes, scale, None, stored[1])
            if kept is None:
                dense = self._decode(self._dense(), scale, None)
                at = np.unpackbits(stored[1], axis=1, count=self.shape[1], bitorder="little").view(bool)
                kept = Weight(self.shape, dense[at], None, stored[1])
            return without_stored_zeros(kept)
        codes = self._checked(self._dense())
        return self._as_codes(codes, scale, zero, None) or Weight(self.shape, self._decode(codes, scale, zero))

    @property
    def has_row_scales(self) -> bool:
        """Integers with one scale a row, which `weight` leaves as they are if they fit."""
        return not self._args.is_float and self._grid[1] == 1 and self._args.strategy != "block"

    def lowest_codes(self) -> int:
        """How many codes of a matrix with one scale a row are -128, the one number that keeps it from staying codes."""
        if not self.has_row_scales or "weight_zero_point" in self._parts:
            return 0
        return int(np.count_nonzero(self._dense() == -128))

    def _as_codes(
        self,
        codes: NDArray[np.generic],
        scale: NDArray[np.float32],
        zero: NDArray[np.float32] | None,
        mask: NDArray[np.uint8] | None,
    ) -> Weight | None:
        """One scale a row, and integers that fit."""
        if not self.has_row_scales or np.any(scale < 0):
            return None
        if zero is not None and zero.any():
            codes = codes.astype(np.int16) - zero.astype(np.int16)
        if codes.size and (codes.min() < -_LARGEST or codes.max() > _LARGEST):
            return None
        rows = np.ascontiguousarray(np.broadcast_to(scale[:, 0], (self.shape[0],)))
        return Weight(self.shape, codes.astype(np.int8, copy=False), rows, mask)

    def _decode(
        self, codes: NDArray[np.generic], scale: NDArray[np.float32], zero: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        rows, columns = self._places()
        result = codes.astype(np.float32)  # a copy: the file is not written to
        if zero is not None:
            result -= zero[rows][:, columns]
        result *= scale[rows][:, columns]
        check_finite(self._where, result)
        return result

    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The row and the column of the scale that each row and each column of the weight have."""
        rows, columns = (np.arange(size, dtype=np.int64) for size in self.shape)
        match self._args.strategy:
            case "tensor":
                return rows * 0, columns[:1] * 0
            case "channel":
                return rows, columns[:1] * 0
            case "block":
                height, width = self._args.block or (1, 1)
                return rows // height, columns // width
        order = self._order()
        return rows, columns // self._group_size() if order is None else order

    def _order(self) -> NDArray[np.int64] | None:
        """The group of each column, where they are not in order."""
        stored = self._parts.get("weight_g_idx")
        if stored is None:
            return None
        order = stored.dense().astype(np.int64)
        if np.any(order == -1):
            return None
        groups = self._grid[1]
        wrong = np.flatnonzero((order < 0) | (order >= groups))
        if wrong.size:
            raise DataError(
                f"{stored.where}: column {wrong[0]}: expected a group from 0 to {groups - 1}, or -1 for none in order, got "
                f"{order[wrong[0]]}"
            )
        return order

    def _dense(self) -> NDArray[np.generic]:
        """q: integers, or for floats float32."""
        if "weight" in self._parts:
            return self._numbers(self._parts["weight"].dense())
        packed = self._parts["weight_packed"]
        return unpack(packed.dense(), self.shape[1], self._args.bits, self._version, packed.where)

    def _numbers(self, raw: NDArray[np.generic]) -> NDArray[np.generic]:
        decode = EIGHT_BIT_FLOATS.get(self._parts["weight"].dtype)
        return raw if decode is None else decode(raw)

    def _checked(self, codes: NDArray[np.generic]) -> NDArray[np.generic]:
        if not self._args.is_float and codes.size:
            bound = 1 << (self._args.bits - 1)
            if codes.min() < -bound or codes.max() >= bound:
                raise DataError(
                    f"{self._where}: integers of {self._args.bits} bits: expected {-bound} to {bound - 1}, got "
                    f"{codes.min()} to {codes.max()}"
                )
        return codes

    def _scale(self) -> NDArray[np.float32]:
        stored = self._parts["weight_scale"]
        scale = to_float32(stored).reshape(self._grid)
        check_finite(stored.where, scale)
        return scale

    def _zero(self) -> NDArray[np.float32] | None:
        stored = self._parts.get("weight_zero_point")
        if stored is None:
            return None
        if stored.dtype != "I32":
            zero = to_float32(stored).reshape(self._grid)
            check_finite(stored.where, zero)
            return zero
        # along the rows: what is a row of words to the weight is a column of them here
        words = np.ascontiguousarray(stored.dense().T)
        by_column = unpack(words, self._grid[0], self._args.bits, self._version, stored.where)
        return np.ascontiguousarray(by_column.T).astype(np.float32)

    def _group_size(self) -> int:
        return self._args.group_size or _PRESET_GROUP

    def _scale_shape(self) -> tuple[int, int]:
        r, c = self.shape
        match self._args.strategy:
            case "tensor":
                return 1, 1
            case "channel":
                return r, 1
            case "group":
                return r, -(-c // self._group_size())
        height, width = self._args.block or (1, 1)
        return -(-r // height), -(-c // width)

    def _check_weight(self) -> tuple[int, int]:
        if "weight" in self._parts:
            weight = self._parts["weight"]
            expected = tuple(EIGHT_BIT_FLOATS) if self._args.is_float else ("I8",)
            if weight.dtype not in expected:
                raise CheckpointError(f"{weight.where}: expected {' or '.join(expected)}, got {weight.dtype}")
            return check_matrix(weight.where, weight.shape)
        packed, shape = self._parts["weight_packed"], self._parts["weight_shape"]
        if self._args.is_float:
            raise UnsupportedModelError(f"{packed.where}: packed floats are not supported, only packed integers")
        if packed.dtype != "I32" or len(packed.shape) != 2:
            raise CheckpointError(
                f"{packed.where}: expected I32 [rows, words], got {packed.dtype} {list(packed.shape)}"
            )
        if shape.dtype not in ("I64", "I32") or shape.shape != (2,):
            raise CheckpointError(f"{shape.where}: expected I64 [2], got {shape.dtype} {list(shape.shape)}")
        rows, columns = check_matrix(shape.where, tuple(shape.dense().tolist()))
        # The words bound what the columns may claim to be, before anything of that size is made.
        if rows != packed.shape[0] or not 0 < columns <= 32 * packed.shape[1]:
            raise ShapeError(f"{packed.where}: weight_shape is [{rows}, {columns}], got words {list(packed.shape)}")
        return rows, columns

    def _check_scales(self) -> None:
        args, grid = self._args, self._grid
        shapes = {(), (1,), (1, 1)} if args.strategy == "tensor" else {grid}
        scale, zero = self._parts["weight_scale"], self._parts.get("weight_zero_point")
        if scale.dtype not in _FLOATS or scale.shape not in shapes:
            shown = [1] if args.strategy == "tensor" else list(grid)
            raise ShapeError(
                f"{scale.where}: a scale for each {args.strategy} of {list(self.shape)}: expected F32, F16 or BF16 {shown}, "
                f"got {scale.dtype} {list(scale.shape)}"
            )
        if zero is not None and zero.dtype == "I32":
            if len(zero.shape) != 2 or zero.shape[1] != grid[1] or args.is_float:
                raise ShapeError(
                    f"{zero.where}: packed zero points: expected I32 [words, {grid[1]}], got {list(zero.shape)}"
                )
        elif zero is not None and (zero.dtype not in ("I8", *_FLOATS, *EIGHT_BIT_FLOATS) or zero.shape not in shapes):
            raise ShapeError(f"{zero.where}: expected I8 {list(scale.shape)}, got {zero.dtype} {list(zero.shape)}")
        order = self._parts.get("weight_g_idx")
        if order is not None and (order.dtype not in ("I32", "I64") or order.shape != (self.shape[1],)):
            raise ShapeError(f"{order.where}: expected I32 [{self.shape[1]}], got {order.dtype} {list(order.shape)}")
        if order is None and args.reordered:
            raise MissingTensorsError(self._where, [f"{self._where}: weight_g_idx"])


@dataclass(frozen=True)
class StaticInput:
    """How calibration would quantize a layer's inputs: x = (q - zero_point) * scale."""

    scale: float
    zero_point: float


def to_float32(stored: Stored) -> NDArray[np.float32]:
    """A tensor of floats or small integers as float32."""
    raw = stored.dense()
    if stored.dtype == "BF16":
        return widen(raw)
    decode = EIGHT_BIT_FLOATS.get(stored.dtype)
    return raw.astype(np.float32) if decode is None else decode(raw)


def without_stored_zeros(weight: Weight) -> Weight:
    """The same matrix, its mask without places whose stored value is zero: a 2:4 mask may hold such."""
    zeros = weight.values & 0x7FFF == 0 if weight.values.dtype == np.uint16 else weight.values == 0
    if weight.mask is None or not zeros.any():
        return weight
    stored = np.unpackbits(weight.mask, axis=1, count=weight.shape[1], bitorder="little").view(bool)
    stored[stored] = ~zeros
    return Weight(weight.shape, weight.values[~zeros], weight.scale, np.packbits(stored, axis=1, bitorder="little"))


def _with_strategy(args: WeightArgs, scale: tuple[int, ...]) -> WeightArgs:
    """Args whose strategy is known: presets leave it to the scales."""
    if args.strategy is not None:
        return args
    kind = "tensor" if scale in ((), (1,)) else "channel" if scale[1:] == (1,) else "group"
    return WeightArgs(args.bits, args.is_float, args.symmetric, kind, args.group_size, reordered=args.reordered)

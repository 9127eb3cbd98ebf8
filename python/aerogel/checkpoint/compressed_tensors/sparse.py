"""The tensors of the file with their sparsity undone: a tensor behind a bit mask looks like any other.

A tensor T is stored plainly, or as these parts; bit k%8 of byte k//8 in a row of the mask is column k:

    T's parts      sparse-bitmask (any shape)                sparse-24-bitmask [R, C]
    compressed     [nonzeros], row-major                     [R, C/2]
    bitmask        uint8 [R, ceil(C/8)]                      the same, two bits in each four columns
    row_offsets    int64 [R], where a row's values begin     -
    shape          int64, T's shape                          int64 [2, 1]

Since version 0.9.0 only M.weight is stored so, as M.compressed, M.bitmask and so on; before it all parameters were, as
M.weight.compressed, M.bias.compressed and so on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerogel.checkpoint.names import is_buffer
from aerogel.checkpoint.tensor_files import TensorFiles
from aerogel.errors import CheckpointError, DataError, MissingTensorsError, ShapeError

PARTS = ("compressed", "bitmask", "row_offsets", "shape")
# Before 0.9.0 what stands behind a mask is named in full; a module is never called so.
_PARAMETERS = (
    *("weight", "bias", "gamma", "beta"),
    *("weight_packed", "weight_scale", "weight_zero_point", "weight_g_idx", "weight_shape"),
    *("input_scale", "input_zero_point", "output_scale", "output_zero_point", "k_scale", "v_scale"),
)


class Stored:
    """One tensor as the file stores it. `dtype` is safetensors' name of its type."""

    def __init__(self, files: TensorFiles, name: str) -> None:
        self._files = files
        self.tensors: tuple[str, ...] = (name,)
        self.where = files.where(name)
        self.dtype, self.shape = files.entry(name).dtype, files.entry(name).shape

    def dense(self) -> NDArray[Any]:
        """All its elements; BF16 as uint16, 8-bit floats as uint8."""
        return self._files.raw(self.tensors[0])

    def sparse(self) -> tuple[NDArray[Any], NDArray[np.uint8]] | None:
        """(the values that are stored, row-major; the bit mask of where they stand), or None if all are stored."""
        return None


class Masked(Stored):
    """A tensor behind a bit mask, in either form."""

    def __init__(self, files: TensorFiles, name: str, parts: dict[str, str]) -> None:
        missing = [f"{name}: {part}" for part in ("compressed", "bitmask", "shape") if part not in parts]
        if missing:
            raise MissingTensorsError(files.where(next(iter(parts.values()))), missing)
        self._files = files
        self._parts = parts
        self.tensors = tuple(parts.values())
        self.where = files.where(parts["compressed"])
        values = files.entry(parts["compressed"])
        self.dtype, self.shape = values.dtype, self._read_shape()
        self._columns = self.shape[-1]
        self._rows = math.prod(self.shape[:-1])
        self._check_parts(values.shape)

    def dense(self) -> NDArray[Any]:
        values, mask = self.sparse()
        stored = np.unpackbits(mask, axis=1, count=self._columns, bitorder="little").view(bool)
        result = np.zeros((self._rows, self._columns), values.dtype)
        result[stored] = values
        return result.reshape(self.shape)

    def sparse(self) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        values = self._files.raw(self._parts["compressed"]).reshape(-1)
        mask = self._files.raw(self._parts["bitmask"]).reshape(self._rows, -(-self._columns // 8))
        counts = _count_bits(mask)
        if self._columns % 8 and np.any(mask[:, -1:] >> (self._columns % 8)):
            raise DataError(f"{self.where}: bitmask: expected no bits beyond column {self._columns - 1}")
        if counts.sum() != values.size:
            raise DataError(
                f"{self.where}: expected as many values as the bitmask has bits, got {values.size} values and "
                f"{counts.sum()} bits"
            )
        if "row_offsets" not in self._parts:
            _check_pairs(mask, self._columns, self.where)
            return values, mask
        offsets = self._files.raw(self._parts["row_offsets"]).reshape(-1)
        wrong = np.flatnonzero(offsets != np.cumsum(counts) - counts)
        if wrong.size:
            row = int(wrong[0])
            raise DataError(
                f"{self.where}: row_offsets: row {row}: expected {counts[:row].sum()}, the bits of the rows before it, "
                f"got {offsets[row]}"
            )
        return values, mask

    def _read_shape(self) -> tuple[int, ...]:
        name = self._parts["shape"]
        entry = self._files.entry(name)
        # [2] or, from the 2:4 compressor, [2, 1]
        if entry.dtype != "I64" or len(entry.shape) not in (1, 2) or entry.shape[1:] not in ((), (1,)):
            raise CheckpointError(
                f"{self._files.where(name)}: expected I64 [dimensions], got {entry.dtype} {list(entry.shape)}"
            )
        shape = tuple(self._files.raw(name).reshape(-1).tolist())
        if not shape or min(shape) < 0:
            raise ShapeError(f"{self._files.where(name)}: expected a tensor's shape, got {list(shape)}")
        return shape

    def _check_parts(self, values: tuple[int, ...]) -> None:
        """Types and shapes; what stands in them is looked at when the tensor is read."""
        shape, rows, row_bytes = list(self.shape), self._rows, -(-self._columns // 8)
        mask = self._files.entry(self._parts["bitmask"])
        if mask.dtype != "U8" or mask.shape not in ((rows, row_bytes), (*self.shape[:-1], row_bytes)):
            raise ShapeError(
                f"{self._files.where(self._parts['bitmask'])}: shape {shape}: expected U8 [{rows}, {row_bytes}], got "
                f"{mask.dtype} {list(mask.shape)}"
            )
        if "row_offsets" in self._parts:
            offsets = self._files.entry(self._parts["row_offsets"])
            # of a vector the one row's offset is a scalar
            if offsets.dtype != "I64" or offsets.shape not in ((rows,), self.shape[:-1]):
                raise ShapeError(
                    f"{self._files.where(self._parts['row_offsets'])}: shape {shape}: expected I64 [{rows}], got "
                    f"{offsets.dtype} {list(offsets.shape)}"
                )
            if len(values) != 1:
                raise ShapeError(f"{self.where}: expected the values in a vector, got {list(values)}")
        elif len(self.shape) != 2 or self._columns % 4 or values != (rows, self._columns // 2):
            raise ShapeError(
                f"{self.where}: 2:4 sparsity of shape {shape}: expected a matrix of a multiple of 4 columns and half as "
                f"many values in a row, got {list(values)}"
            )


def collect(files: TensorFiles) -> dict[str, Stored]:
    """Every tensor of the file by its name, with the parts of one behind a mask taken together."""
    found: dict[str, Stored] = {}
    masked: dict[str, dict[str, str]] = {}
    for tensor in files:
        owner, _, part = tensor.rpartition(".")
        if part in PARTS and owner:
            masked.setdefault(_masked_name(owner), {})[part] = tensor
        else:
            found[tensor] = Stored(files, tensor)
    for name, parts in masked.items():
        if name in found:
            raise CheckpointError(f"{files.where(name)}: stored twice, plain and behind a bit mask")
        found[name] = Masked(files, name, parts)
    return found


def _masked_name(owner: str) -> str:
    """M.weight of the module M, or of a file before 0.9.0 the parameter itself."""
    return owner if owner.rpartition(".")[2] in _PARAMETERS or is_buffer(owner) else owner + ".weight"


def _check_pairs(mask: NDArray[np.uint8], columns: int, where: str) -> None:
    pairs = _BITS[mask & 15], _BITS[mask >> 4]
    if np.any(pairs[0] != 2) or np.any(pairs[1][:, : columns // 8] != 2):
        raise DataError(f"{where}: bitmask: expected two bits in each four columns")


_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def _count_bits(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The set bits of every row."""
    counts: NDArray[np.int64] = _BITS[mask].sum(axis=1, dtype=np.int64)
    return counts

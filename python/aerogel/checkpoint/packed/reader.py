"""Reading a packed model; `format` says what its tensors mean."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aerogel.checkpoint.checksums import check_files
from aerogel.checkpoint.config import read_config, read_json
from aerogel.checkpoint.names import normalize_all
from aerogel.checkpoint.packed.format import (
    BITMASK,
    CHECKED_VERSION,
    GROUP,
    INDEX,
    INPUT_LIMIT,
    LEVELS,
    MULTIPLIER,
    OFFSET,
    PACKED,
    QUANT_METHOD,
    SCALE,
    SHAPE,
    VALUES,
    ZERO,
    check_format,
)
from aerogel.checkpoint.packed.small import SmallSafetensorsFile
from aerogel.checkpoint.safetensors import FolderCheckpoint
from aerogel.checkpoint.safetensors_file import SafetensorsFile
from aerogel.checkpoint.sentence_transformers import read_sentence_transformer
from aerogel.checkpoint.weight import Weight, check_finite, check_matrix
from aerogel.errors import CheckpointError, DataError, MissingTensorsError
from aerogel.numbers.bits import bits_for
from aerogel.numbers.int8 import LARGEST, check_limit

_INDICES = (INDEX, PACKED)
_PARTS = (BITMASK, VALUES, SCALE, SHAPE, LEVELS, MULTIPLIER, ZERO, OFFSET, GROUP, INPUT_LIMIT, *_INDICES)


def detect(path: Path) -> bool:
    """A folder whose config.json names aerogel."""
    file = path / "config.json"
    if not file.is_file():
        return False
    quantization = read_json(file).get("quantization_config")
    return isinstance(quantization, dict) and quantization.get("quant_method") == QUANT_METHOD


def read(path: Path, verify: bool = True) -> PackedCheckpoint:
    """Opens the packed model in the folder."""
    return PackedCheckpoint(path, verify)


class _Parameter(NamedTuple):
    """The parts of one parameter: tensor names, or None; and what small tensors say."""

    shape: tuple[int, ...]
    values: str
    scale: str | None = None
    mask: str | None = None
    levels: str | None = None
    multiplier: str | None = None
    zero: str | None = None
    offset: str | None = None
    limit: str | None = None
    group: int = 0
    bits: int = 0

    @property
    def tensors(self) -> list[str]:
        parts = (self.values, self.scale, self.mask, self.levels, self.multiplier, self.zero, self.offset, self.limit)
        return [part for part in parts if part is not None]


#: Fields of a parameter, and the suffixes of their tensors.
_FIELDS = {
    "scale": SCALE,
    "mask": BITMASK,
    "levels": LEVELS,
    "multiplier": MULTIPLIER,
    "zero": ZERO,
    "offset": OFFSET,
    "limit": INPUT_LIMIT,
}
_ARRAYS = ("values", "scale", "mask", "levels", "multiplier", "zero", "offset")  # of a parameter and of a Weight


class PackedCheckpoint(FolderCheckpoint):
    """A packed model. With `verify`, small files are held against their checksums here, tensors when they are read."""

    kind = "packed"

    def __init__(self, path: Path, verify: bool = True) -> None:
        if verify:
            check_files(path)
        config = read_config(path)
        version = check_format(config, path / "config.json")
        super().__init__(path, path, read_sentence_transformer(path), config)
        self._file = SmallSafetensorsFile(path / "model.safetensors", verify)
        if verify and version >= CHECKED_VERSION:
            self._file.require_checksums()
        parameters = _parameters(self._file)
        self._parameters = {
            name: parameters[stored] for name, stored in normalize_all(parameters, config, self._file.path).items()
        }

    def names(self) -> list[str]:
        return self._names

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self._parameters)

    def __contains__(self, name: object) -> bool:
        return name in self._parameters

    def shape(self, name: str) -> tuple[int, ...]:
        return self._find(name).shape

    def array(self, name: str) -> NDArray[np.float32]:
        parameter = self._find(name)
        if parameter.scale is not None or parameter.mask is not None:
            return self.weight(name).dense()
        values = self._file.float32(parameter.values)
        check_finite(f"{self._file.path}: {name}", values)
        return values

    def weight(self, name: str) -> Weight:
        parameter = self._find(name)
        where = f"{self._file.path}: {name}"
        shape = check_matrix(where, parameter.shape)
        parts = {part: self._file.raw(name) for part in _ARRAYS if (name := getattr(parameter, part)) is not None}
        values, mask, scale = parts["values"], parts.get("mask"), parts.get("scale")
        if mask is not None:
            _check_mask(where, mask, shape[1], values.size, parameter.bits)
        if scale is None:
            check_finite(where, values)
        else:
            check_finite(f"{where}: scale", scale)
            if values.dtype == np.int8 and values.size and values.min() < -127:
                raise DataError(f"{where}: expected codes in [-127, 127], got {values.min()}")
        weight = Weight(shape, group=parameter.group, bits=parameter.bits, **parts)
        if weight.levels is not None:
            _check_indices(where, weight)
        return weight

    def input_limit(self, name: str) -> float | None:
        tensor = self._find(name).limit
        if tensor is None:
            return None
        value = float(self._file.raw(tensor)[0])
        check_limit(f"{self._file.path}: {tensor}", value)
        return value

    def stored_bytes(self, name: str) -> int:
        """Bytes of the parameter in the file, masks, scales and the like included."""
        return sum(self._file.stored_bytes(tensor) for tensor in self._find(name).tensors)

    def _find(self, name: str) -> _Parameter:
        parameter = self._parameters.get(name)
        if parameter is None:
            raise MissingTensorsError(self.path, [name])
        return parameter


def _parameters(file: SafetensorsFile) -> dict[str, _Parameter]:
    """Groups the file's tensors into parameters, each checked for parts, types and shapes."""
    found: dict[str, dict[str, str]] = {}  # of each parameter: suffix -> tensor
    for tensor in file.entries:
        suffix = next((part for part in _PARTS if tensor.endswith(part)), "")
        found.setdefault(tensor.removesuffix(suffix), {})[suffix] = tensor
    result: dict[str, _Parameter] = {}
    stray: list[str] = []
    for name, parts in found.items():
        if parts.keys() & {"", BITMASK, *_INDICES}:
            parameter, used = _parameter(file, name, parts)
            result[name] = parameter
            stray += [tensor for suffix, tensor in parts.items() if suffix not in used]
        else:
            stray += parts.values()
    if stray:
        raise CheckpointError(f"{file.path}: parts without their parameter: {', '.join(sorted(stray))}")
    return result


def _parameter(file: SafetensorsFile, name: str, parts: dict[str, str]) -> tuple[_Parameter, set[str]]:
    """One parameter, and the suffixes of the tensors that it takes."""
    form = _form(file, name, parts)
    values, indices = parts[form], form in _INDICES
    _check_values(file, name, parts, values, indices)
    bits, used = 0, {form}
    if indices:
        used.add(LEVELS)
        bits = _index_bits(file, name, parts, packed=form == PACKED)
    shape, shaped = _matrix_shape(file, parts, values, bits)
    group, scaled = _checked_scale(file, name, parts, shape, indices)
    used |= shaped | scaled
    if INPUT_LIMIT in parts and len(shape) == 2:
        used.add(INPUT_LIMIT)
        _expect(file, parts[INPUT_LIMIT], "F32", (1,))
    tensors = {field: parts[suffix] for field, suffix in _FIELDS.items() if suffix in used}
    return _Parameter(shape, values, group=group, bits=bits, **tensors), used


def _form(file: SafetensorsFile, name: str, parts: dict[str, str]) -> str:
    """The suffix of the tensor that holds the values, or the indices of values."""
    sparse = BITMASK in parts
    forms = [suffix for suffix in (VALUES if sparse else "", *_INDICES) if suffix in parts]
    if sparse and "" in parts:
        raise CheckpointError(f"{file.path}: {name} is stored twice, dense and behind a mask")
    if not forms:
        raise MissingTensorsError(file.path, [name + VALUES])
    if len(forms) > 1:
        raise CheckpointError(f"{file.path}: {name} is stored twice, as {' and as '.join(parts[f] for f in forms)}")
    return forms[0]


def _check_values(file: SafetensorsFile, name: str, parts: dict[str, str], values: str, indices: bool) -> None:
    """The type of the values, and that those that need a scale have one."""
    dtype = file.entries[values].dtype
    if dtype not in (("U8",) if indices else ("F32", "BF16", "I8")):
        raise _unfit(file, values, "U8" if indices else "F32, BF16 or I8", dtype)
    if (SCALE in parts) != (indices or dtype == "I8"):
        raise _unfit(
            file,
            name + SCALE,
            "one with I8 values and none with others",
            f"{dtype}{', a scale' if SCALE in parts else ''}",
        )


def _matrix_shape(
    file: SafetensorsFile, parts: dict[str, str], values: str, bits: int
) -> tuple[tuple[int, ...], set[str]]:
    """The parameter's shape, and the suffixes of the tensors that say it; `bits` of an index, 0 where there are none."""
    shape = file.entries[values].shape
    if BITMASK in parts:
        mask = file.entries[parts[BITMASK]]
        if mask.dtype != "U8" or len(mask.shape) != 2:
            raise _unfit(file, parts[BITMASK], "U8 [N, ceil(K/8)]", f"{mask.dtype} {list(mask.shape)}")
        if len(shape) != 1:
            raise _unfit(file, values, "a vector", list(shape))
        if SHAPE in parts:
            return _stored_shape(file, parts[SHAPE], "a mask", mask.shape, 1), {BITMASK, SHAPE}
        return (mask.shape[0], mask.shape[1] * 8), {BITMASK}
    if not bits:
        return shape, set()
    if len(shape) != 2:
        raise _unfit(file, values, "a matrix of indices", list(shape))
    if SHAPE in parts:
        return _stored_shape(file, parts[SHAPE], f"indices of {bits} bits", shape, bits), {SHAPE}
    return (shape[0], shape[1] * 8 // bits), set()


def _checked_scale(
    file: SafetensorsFile, name: str, parts: dict[str, str], shape: tuple[int, ...], indices: bool
) -> tuple[int, set[str]]:
    """Columns that share a scale (0: all of a row), and the suffixes of the tensors about scales."""
    if SCALE not in parts:
        return 0, set()
    if len(shape) != 2:
        raise _unfit(file, name, "a matrix of codes", list(shape))
    group, used = 0, {SCALE}
    if GROUP in parts:
        used.add(GROUP)
        group = _stored_group(file, parts[GROUP])
    groups = -(-shape[1] // group) if group else 1
    _expect(file, parts[SCALE], "F32", (shape[0], groups) if group and not indices else (shape[0],))
    for suffix, kind in ((MULTIPLIER, "U8"), (ZERO, "I8"), (OFFSET, "I8")) if indices else ():
        if suffix in parts:
            used.add(suffix)
            _expect(file, parts[suffix], kind, (shape[0], groups))
    return group, used


def _index_bits(file: SafetensorsFile, name: str, parts: dict[str, str], packed: bool) -> int:
    if LEVELS not in parts:
        raise MissingTensorsError(file.path, [name + LEVELS])
    levels = file.entries[parts[LEVELS]]
    most = 128 if packed else 256
    if levels.dtype != "I8" or len(levels.shape) != 1 or not 1 <= levels.shape[0] <= most:
        raise _unfit(file, parts[LEVELS], f"I8 [1 to {most}]", f"{levels.dtype} {list(levels.shape)}")
    return bits_for(levels.shape[0]) if packed else 8


def _unfit(file: SafetensorsFile, name: str, expected: str, got: object) -> CheckpointError:
    return CheckpointError(f"{file.path}: {name}: expected {expected}, got {got}")


def _expect(file: SafetensorsFile, tensor: str, dtype: str, shape: tuple[int, ...]) -> None:
    entry = file.entries[tensor]
    if (entry.dtype, entry.shape) != (dtype, shape):
        raise _unfit(file, tensor, f"{dtype} {list(shape)}", f"{entry.dtype} {list(entry.shape)}")


def _stored_shape(file: SafetensorsFile, tensor: str, what: str, stored: tuple[int, ...], bits: int) -> tuple[int, ...]:
    """What P_shape says, if `what`, of `bits` an element, have the shape `stored` then."""
    entry = file.entries[tensor]
    shape = tuple(file.raw(tensor).tolist()) if (entry.dtype, entry.shape) == ("I64", (2,)) else None
    if shape is None or shape[1] < 0 or (shape[0], -(-shape[1] * bits // 8)) != stored:
        raise CheckpointError(
            f"{file.path}: {tensor}: expected I64 [N, K] that fits {what} {list(stored)}, got "
            f"{list(shape) if shape else f'{entry.dtype} {list(entry.shape)}'}"
        )
    return shape


def _stored_group(file: SafetensorsFile, tensor: str) -> int:
    entry = file.entries[tensor]
    group = int(file.raw(tensor)[0]) if (entry.dtype, entry.shape) == ("I64", (1,)) else None
    if group is None or group < 8 or group % 8:
        got = f"{entry.dtype} {list(entry.shape)}" if group is None else group
        raise _unfit(file, tensor, "I64 [1], a positive multiple of 8", got)
    return group


def _check_mask(where: str, mask: NDArray[np.uint8], k: int, values: int, index_bits: int) -> None:
    """values: elements of the array of values; bytes of indices of so many bits."""
    bits = int(np.bitwise_count(mask).sum(dtype=np.int64)) if hasattr(np, "bitwise_count") else _count_bits(mask)
    if index_bits and -(-bits * index_bits // 8) != values:
        raise DataError(
            f"{where}: expected as many indices as the mask has bits, {bits} of {index_bits} bits, got {values} bytes"
        )
    if not index_bits and bits != values:
        raise DataError(f"{where}: expected as many values as the mask has bits, got {values} values and {bits} bits")
    if k % 8 and np.any(mask[:, -1] >> (k % 8)):
        raise DataError(f"{where}: mask: expected no bits beyond column {k - 1}")


def _check_indices(where: str, weight: Weight) -> None:
    """Indices below the number of levels, nothing in the bits after them, and codes in [-127, 127]."""
    levels = weight.levels
    assert levels is not None
    index = weight.indices()
    if index.size and index.max() >= levels.size:
        raise DataError(f"{where}: expected indices below {levels.size}, the number of levels, got {index.max()}")
    after = index.shape[-1] * weight.bits % 8
    if after and weight.values.size and np.any(weight.values[..., -1] >> after):
        raise DataError(f"{where}: expected no bits behind the last index")
    ends = np.array([levels.min(), levels.max()], int).reshape(2, 1, 1)
    for table, step in ((weight.zero, np.subtract), (weight.multiplier, np.multiply), (weight.offset, np.add)):
        ends = ends if table is None else step(ends, table.astype(int))
    if np.abs(ends).max() > LARGEST:  # not every index need occur in every group
        most = int(np.abs(weight.codes(np.int32)).max(initial=0))
        if most > LARGEST:
            raise DataError(f"{where}: expected indices of codes in [-127, 127], got one of magnitude {most}")


def _count_bits(mask: NDArray[np.uint8]) -> int:
    """The number of set bits, for NumPy before 2.0."""
    table = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)
    return int(table[mask].sum())

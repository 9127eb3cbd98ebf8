"""Packed models: what aerogel writes. An ordinary Hugging Face folder whose config.json says

    "quantization_config": {"quant_method": "aerogel", "format_version": 2, ...}

and whose model.safetensors stores each parameter P as

    dense float32     P          F32 [...]
    dense bf16        P          BF16 [N,K]
    dense int8        P          I8 [N,K]             P_scale   F32 [N]
    sparse float32    P_bitmask  U8 [N, ceil(K/8)]    P_values  F32 [stored]
    sparse bf16       P_bitmask  U8 [N, ceil(K/8)]    P_values  BF16 [stored]
    sparse int8       P_bitmask  U8 [N, ceil(K/8)]    P_values  I8 [stored]     P_scale  F32 [N]

and, since version 2, where int8 codes have a scale each group of columns, or are indices of a few levels,

    int8 of groups    P_group    I64 [1]                   P_scale       F32 [N, ceil(K/group)], the rest as above
    dense indices     P_packed   U8 [N, ceil(K*bits/8)]    P_scale       F32 [N]    P_levels  I8 [1 to 256]
    sparse indices    P_packed   U8 [ceil(stored*bits/8)]  P_bitmask     and the same
    of groups, too    P_group    I64 [1]                   P_multiplier  U8 and perhaps P_zero I8 [N, ceil(K/group)]

Any matrix may have P_input_limit, F32 [1]: a linear with it quantizes its input by the fixed int8 scale limit / 127
instead of one a token, see `Checkpoint.input_limit`.

Bit k%8 of byte k//8 in a row of the mask says that column k is stored; values are in row-major order; codes are in
[-127, 127]. Indices take as few bits as tell the levels apart, least significant first; P_index instead of P_packed has
one byte for each ([N,K] or [stored]). With g = k // group

    code[n,k] = (levels[index[n,k]] - zero[n,g]) * multiplier[n,g]        w[n,k] = code[n,k] * scale[n]

K is 8 times the mask's columns, or what fills the bytes of packed indices, unless P_shape (I64 [2]) says [N, K]. Any
U8 or I8 tensor X may be compressed instead, as X_small (see `aerogel.checkpoint.small`); here it looks plain.

Shapes and types are checked when the file is opened; what needs a look at the data (as many values as mask bits, finite
numbers, codes and indices in range) when a weight is read.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aerogel.bits import bits_for
from aerogel.checkpoint.base import Weight, check_finite, check_limit, check_matrix
from aerogel.checkpoint.config import check_config, read_config, read_json
from aerogel.checkpoint.names import normalize_all
from aerogel.checkpoint.pooling import read_sentence_transformer
from aerogel.checkpoint.safetensors import FolderCheckpoint
from aerogel.checkpoint.safetensors_file import SafetensorsFile
from aerogel.checkpoint.small import SmallSafetensorsFile
from aerogel.errors import CheckpointError, DataError, MissingTensorsError
from aerogel.quantize.base import LARGEST

FORMAT_VERSION = 2
QUANT_METHOD = "aerogel"
_INDICES = ("_index", "_packed")
_PARTS = (
    "_bitmask",
    "_values",
    "_scale",
    "_shape",
    "_levels",
    "_multiplier",
    "_zero",
    "_group",
    "_input_limit",
    *_INDICES,
)


def detect(path: Path) -> bool:
    """A folder whose config.json names aerogel."""
    file = path / "config.json"
    if not file.is_file():
        return False
    quantization = read_json(file).get("quantization_config")
    return isinstance(quantization, dict) and quantization.get("quant_method") == QUANT_METHOD


def read(path: Path) -> PackedCheckpoint:
    """Opens the packed model in the folder."""
    return PackedCheckpoint(path)


class _Parameter(NamedTuple):
    """The parts of one parameter: tensor names, or None; and what small tensors say."""

    shape: tuple[int, ...]
    values: str
    scale: str | None = None
    mask: str | None = None
    levels: str | None = None
    multiplier: str | None = None
    zero: str | None = None
    limit: str | None = None
    group: int = 0
    bits: int = 0

    @property
    def tensors(self) -> list[str]:
        parts = (self.values, self.scale, self.mask, self.levels, self.multiplier, self.zero, self.limit)
        return [part for part in parts if part is not None]


_ARRAYS = ("values", "scale", "mask", "levels", "multiplier", "zero")  # of a parameter and of a Weight


class PackedCheckpoint(FolderCheckpoint):
    """A packed model; arrays and weights are views of the mapped file, or decoded where it is compressed."""

    kind: ClassVar[str] = "packed"

    def __init__(self, path: Path) -> None:
        config = read_config(path)
        check_format(config, path / "config.json")
        super().__init__(path, path, read_sentence_transformer(path), config)
        self._file = SmallSafetensorsFile(path / "model.safetensors")
        parameters = _parameters(self._file)
        self._parameters = {
            name: parameters[stored] for name, stored in normalize_all(parameters, self._file.path).items()
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

    def release(self, name: str) -> None:
        for tensor in self._find(name).tensors:
            self._file.release(tensor)

    def stored_bytes(self, name: str) -> int:
        """Bytes of the parameter in the file, masks, scales and the like included."""
        return sum(self._file.stored_bytes(tensor) for tensor in self._find(name).tensors)

    def _find(self, name: str) -> _Parameter:
        parameter = self._parameters.get(name)
        if parameter is None:
            raise MissingTensorsError(self.path, [name])
        return parameter


def check_format(config: dict[str, Any], where: object) -> None:
    """Raises CheckpointError unless the config announces a packed model of a version that this code reads."""
    check_config(config, where)
    quantization = config.get("quantization_config")
    if not isinstance(quantization, dict) or quantization.get("quant_method") != QUANT_METHOD:
        raise CheckpointError(f"{where}: quantization_config: expected quant_method {QUANT_METHOD!r}")
    version = quantization.get("format_version")
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{where}: format_version: expected a positive whole number, got {version!r:.80}")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{where}: format_version: expected at most {FORMAT_VERSION}, got {version}: "
            "the model was packed by a newer aerogel"
        )


def _parameters(file: SafetensorsFile) -> dict[str, _Parameter]:
    """Groups the file's tensors into parameters, each checked for parts, types and shapes."""
    found: dict[str, dict[str, str]] = {}  # of each parameter: suffix -> tensor
    for tensor in file.entries:
        suffix = next((part for part in _PARTS if tensor.endswith(part)), "")
        found.setdefault(tensor.removesuffix(suffix), {})[suffix] = tensor
    result: dict[str, _Parameter] = {}
    stray: list[str] = []
    for name, parts in found.items():
        if parts.keys() & {"", "_bitmask", *_INDICES}:
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
    sparse = "_bitmask" in parts
    forms = [suffix for suffix in ("_values" if sparse else "", *_INDICES) if suffix in parts]
    if sparse and "" in parts:
        raise CheckpointError(f"{file.path}: {name} is stored twice, dense and behind a mask")
    if not forms:
        raise MissingTensorsError(file.path, [name + "_values"])
    if len(forms) > 1:
        raise CheckpointError(f"{file.path}: {name} is stored twice, as {' and as '.join(parts[f] for f in forms)}")
    values, indices = parts[forms[0]], forms[0] in _INDICES
    dtype, shape = file.entries[values].dtype, file.entries[values].shape
    if dtype not in (("U8",) if indices else ("F32", "BF16", "I8")):
        raise _unfit(file, values, "U8" if indices else "F32, BF16 or I8", dtype)
    if ("_scale" in parts) != (indices or dtype == "I8"):
        raise _unfit(
            file,
            name + "_scale",
            "one with I8 values and none with others",
            f"{dtype}{', a scale' if '_scale' in parts else ''}",
        )
    bits, used = 0, {forms[0]}
    if indices:
        used.add("_levels")
        bits = _index_bits(file, name, parts, packed=forms[0] == "_packed")
    if sparse:
        used.add("_bitmask")
        mask = file.entries[parts["_bitmask"]]
        if mask.dtype != "U8" or len(mask.shape) != 2:
            raise _unfit(file, parts["_bitmask"], "U8 [N, ceil(K/8)]", f"{mask.dtype} {list(mask.shape)}")
        if len(shape) != 1:
            raise _unfit(file, values, "a vector", list(shape))
        shape = (mask.shape[0], mask.shape[1] * 8)
        if "_shape" in parts:
            used.add("_shape")
            shape = _stored_shape(file, parts["_shape"], "a mask", mask.shape, 1)
    elif indices:
        if len(shape) != 2:
            raise _unfit(file, values, "a matrix of indices", list(shape))
        stored = shape
        shape = (stored[0], stored[1] * 8 // bits)
        if "_shape" in parts:
            used.add("_shape")
            shape = _stored_shape(file, parts["_shape"], f"indices of {bits} bits", stored, bits)
    group = 0
    if "_scale" in parts:
        used.add("_scale")
        if len(shape) != 2:
            raise _unfit(file, name, "a matrix of codes", list(shape))
        if "_group" in parts:
            used.add("_group")
            group = _stored_group(file, parts["_group"])
        groups = -(-shape[1] // group) if group else 1
        _expect(file, parts["_scale"], "F32", (shape[0], groups) if group and not indices else (shape[0],))
        for suffix, kind in (("_multiplier", "U8"), ("_zero", "I8")) if indices else ():
            if suffix in parts:
                used.add(suffix)
                _expect(file, parts[suffix], kind, (shape[0], groups))
    if "_input_limit" in parts and len(shape) == 2:
        used.add("_input_limit")
        _expect(file, parts["_input_limit"], "F32", (1,))
    tensors = {
        field: parts[suffix]
        for field, suffix in (
            ("scale", "_scale"),
            ("mask", "_bitmask"),
            ("levels", "_levels"),
            ("limit", "_input_limit"),
        )
        if suffix in used
    }
    if indices:
        tensors.update({part: parts["_" + part] for part in ("multiplier", "zero") if "_" + part in parts})
    return _Parameter(shape, values, group=group, bits=bits, **tensors), used


def _index_bits(file: SafetensorsFile, name: str, parts: dict[str, str], packed: bool) -> int:
    if "_levels" not in parts:
        raise MissingTensorsError(file.path, [name + "_levels"])
    levels = file.entries[parts["_levels"]]
    most = 128 if packed else 256
    if levels.dtype != "I8" or len(levels.shape) != 1 or not 1 <= levels.shape[0] <= most:
        raise _unfit(file, parts["_levels"], f"I8 [1 to {most}]", f"{levels.dtype} {list(levels.shape)}")
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
    zero = np.zeros((1, 1), int) if weight.zero is None else weight.zero.astype(int)
    reach = np.maximum(np.abs(levels.max() - zero), np.abs(levels.min() - zero))
    if weight.multiplier is not None:
        reach = reach * weight.multiplier
    if reach.max() > LARGEST:  # not every index need occur in every group
        most = int(np.abs(weight.codes(np.int32)).max(initial=0))
        if most > LARGEST:
            raise DataError(f"{where}: expected indices of codes in [-127, 127], got one of magnitude {most}")


def _count_bits(mask: NDArray[np.uint8]) -> int:
    """The number of set bits, for NumPy before 2.0."""
    table = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)
    return int(table[mask].sum())

"""Packed models: what aerogel writes. An ordinary Hugging Face folder whose config.json says

    "quantization_config": {"quant_method": "aerogel", "format_version": 1, ...}

and whose model.safetensors stores each parameter P as

    dense float32     P          F32 [...]
    dense bf16        P          BF16 [N,K]
    dense int8        P          I8 [N,K]             P_scale   F32 [N]
    sparse float32    P_bitmask  U8 [N, ceil(K/8)]    P_values  F32 [nonzeros]
    sparse bf16       P_bitmask  U8 [N, ceil(K/8)]    P_values  BF16 [nonzeros]
    sparse int8       P_bitmask  U8 [N, ceil(K/8)]    P_values  I8 [nonzeros]     P_scale  F32 [N]

Bit k%8 of byte k//8 in a row of the mask says that column k is stored; values are in row-major order; codes are in
[-127, 127]. K is 8 times the mask's columns, unless P_shape (I64 [2]) says [N, K]. Any U8 or I8 tensor X may be
compressed instead, as X_small (see `aerogel.checkpoint.small`); here it looks plain.

Shapes and types are checked when the file is opened; what needs a look at the data (as many values as mask bits, finite
numbers, codes in range) when a weight is read.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aerogel.checkpoint.base import Weight, check_finite, check_matrix
from aerogel.checkpoint.config import check_config, read_config, read_json
from aerogel.checkpoint.names import normalize_all
from aerogel.checkpoint.pooling import read_sentence_transformer
from aerogel.checkpoint.safetensors import FolderCheckpoint
from aerogel.checkpoint.safetensors_file import SafetensorsFile
from aerogel.checkpoint.small import SmallSafetensorsFile
from aerogel.errors import CheckpointError, DataError, MissingTensorsError

FORMAT_VERSION = 1
QUANT_METHOD = "aerogel"
_PARTS = ("_bitmask", "_values", "_scale", "_shape")


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
    """The parts of one parameter: tensor names, or None."""

    shape: tuple[int, ...]
    values: str
    scale: str | None
    mask: str | None


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
        values = self._file.raw(parameter.values)
        scale = self._file.raw(parameter.scale) if parameter.scale else None
        mask = self._file.raw(parameter.mask) if parameter.mask else None
        if mask is not None:
            _check_mask(where, mask, shape[1], values.size)
        if scale is None:
            check_finite(where, values)
        else:
            check_finite(f"{where}: scale", scale)
            if values.size and values.min() < -127:
                raise DataError(f"{where}: expected codes in [-127, 127], got {values.min()}")
        return Weight(shape, values, scale, mask)

    def release(self, name: str) -> None:
        parameter = self._find(name)
        for tensor in (parameter.values, parameter.scale, parameter.mask):
            if tensor is not None:
                self._file.release(tensor)

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
    entries = file.entries
    used: set[str] = set()
    result: dict[str, _Parameter] = {}

    def fail(name: str, expected: str, got: object) -> CheckpointError:
        return CheckpointError(f"{file.path}: {name}: expected {expected}, got {got}")

    for tensor, entry in entries.items():
        if tensor.endswith("_bitmask"):
            name = tensor.removesuffix("_bitmask")
        elif not tensor.endswith(_PARTS):
            name = tensor
        else:
            continue
        sparse = name + "_bitmask" in entries
        if sparse and name in entries:
            raise CheckpointError(f"{file.path}: {name} is stored twice, dense and behind a mask")
        values = name + "_values" if sparse else name
        if values not in entries:
            raise MissingTensorsError(file.path, [values])
        scale = name + "_scale" if name + "_scale" in entries else None
        dtype, shape = entries[values].dtype, entries[values].shape
        if dtype not in ("F32", "BF16", "I8"):
            raise fail(values, "F32, BF16 or I8", dtype)
        if (scale is not None) != (dtype == "I8"):
            raise fail(
                name + "_scale", "one with I8 values and none with others", f"{dtype}{', a scale' if scale else ''}"
            )
        if sparse:
            mask = entries[name + "_bitmask"]
            if mask.dtype != "U8" or len(mask.shape) != 2:
                raise fail(name + "_bitmask", "U8 [N, ceil(K/8)]", f"{mask.dtype} {list(mask.shape)}")
            if len(shape) != 1:
                raise fail(values, "a vector", list(shape))
            shape = (mask.shape[0], mask.shape[1] * 8)
            if name + "_shape" in entries:
                shape = _stored_shape(file, name + "_shape", mask.shape)
                used.add(name + "_shape")
        if scale is not None:
            if len(shape) != 2:
                raise fail(name, "a matrix of codes", list(shape))
            if entries[scale].dtype != "F32" or entries[scale].shape != (shape[0],):
                raise fail(scale, f"F32 [{shape[0]}]", f"{entries[scale].dtype} {list(entries[scale].shape)}")
        result[name] = _Parameter(shape, values, scale, name + "_bitmask" if sparse else None)
        used.update(part for part in (name + "_bitmask" if sparse else None, values, scale) if part)

    stray = sorted(set(entries) - used)
    if stray:
        raise CheckpointError(f"{file.path}: parts without their parameter: {', '.join(stray)}")
    return result


def _stored_shape(file: SafetensorsFile, tensor: str, mask: tuple[int, ...]) -> tuple[int, ...]:
    entry = file.entries[tensor]
    shape = tuple(file.raw(tensor).tolist()) if (entry.dtype, entry.shape) == ("I64", (2,)) else None
    if shape is None or (shape[0], -(-shape[1] // 8)) != mask:
        raise CheckpointError(
            f"{file.path}: {tensor}: expected I64 [N, K] that fits a mask {list(mask)}, got "
            f"{list(shape) if shape else f'{entry.dtype} {list(entry.shape)}'}"
        )
    return shape


def _check_mask(where: str, mask: NDArray[np.uint8], k: int, stored: int) -> None:
    bits = int(np.bitwise_count(mask).sum(dtype=np.int64)) if hasattr(np, "bitwise_count") else _count_bits(mask)
    if bits != stored:
        raise DataError(f"{where}: expected as many values as the mask has bits, got {stored} values and {bits} bits")
    if k % 8 and np.any(mask[:, -1] >> (k % 8)):
        raise DataError(f"{where}: mask: expected no bits beyond column {k - 1}")


def _count_bits(mask: NDArray[np.uint8]) -> int:
    """The number of set bits, for NumPy before 2.0."""
    table = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)
    return int(table[mask].sum())

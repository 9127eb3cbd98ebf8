"""One safetensors file, opened and checked.

    8 bytes            N, little endian
    N bytes            JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
    the rest           the tensors' bytes, little endian, row-major, without holes or overlaps

It is parsed here, not by the `safetensors` package, because every way for a file to be broken has its own message, and
because tensors are checked against their checksums while they are read (`aerogel.checkpoint.checksums`). What that package
refuses, this one refuses: a test compares them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aerogel.checkpoint.checksums import KEY, as_text, tensor_checksums, tensor_seed
from aerogel.checkpoint.file_bytes import FileBytes
from aerogel.errors import CheckpointError, UnsupportedModelError
from aerogel.numbers.bf16 import widen

_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "F8_E4M3": np.dtype("u1"),  # codes, see aerogel.numbers.fp8
    "F8_E5M2": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # the upper half of a float32
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
_MAX_HEADER_BYTES = 100_000_000  # the limit of the format's own implementation
# What NumPy can hold, also where a dimension is 0: an empty tensor takes no bytes, whatever its other dimensions say.
_MAX_DIMENSIONS, _MAX_ELEMENTS = 32, 2**59
_FLOATS = ("F32", "F16", "BF16", "F64")


class Entry(NamedTuple):
    """Where a tensor lies in the file; `begin` and `end` count from the first data byte."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile:
    """An open safetensors file. The header is checked when it is opened, values are not looked at.

    With `verify`, tensors that have checksums are held against them whenever they are read.
    """

    def __init__(self, path: Path, verify: bool = True) -> None:
        self.path = path
        self._bytes = FileBytes(path)
        header, self._data_begin = _read_header(path, self._bytes)
        self.metadata: dict[str, str] = _metadata(path, header.pop("__metadata__", None))
        self.entries = {name: _entry(path, name, value) for name, value in header.items()}
        _check_layout(path, self.entries, len(self._bytes) - self._data_begin)
        self._checksums = tensor_checksums(path, self.metadata.get(KEY), list(self.entries)) if verify else {}

    def raw(self, name: str, rows: slice | None = None) -> NDArray[Any]:
        """The tensor as it is stored, or these of its rows, read anew. BF16 comes as uint16, 8-bit floats as uint8.

        Raises:
            CheckpointError: it is damaged, or the file is shorter by now.
            UnsupportedModelError: NumPy has no such type (4-bit floats and the like).
        """
        entry = self.entries[name]
        dtype = _DTYPES.get(entry.dtype)
        if dtype is None:
            raise UnsupportedModelError(f"{self.path}: {name}: dtype {entry.dtype} is not supported")
        values: NDArray[Any]
        if rows is None:
            values = self._read(name, entry).view(dtype).reshape(entry.shape)
        elif name in self._checksums:  # of the whole
            values = self._read(name, entry).view(dtype).reshape(entry.shape)[rows].copy()
        else:
            size = math.prod(entry.shape[1:]) * dtype.itemsize
            begin, count = self._data_begin + entry.begin + rows.start * size, rows.stop - rows.start
            values = self._bytes.read(begin, count * size).view(dtype).reshape(count, *entry.shape[1:])
        return values

    def float32(self, name: str, rows: slice | None = None) -> NDArray[np.float32]:
        """The tensor, or these of its rows, as float32, rounded if it is stored in float64.

        Raises:
            UnsupportedModelError: it is not stored as F32, F16, BF16 or F64.
        """
        dtype = self.entries[name].dtype
        if dtype not in _FLOATS:
            raise UnsupportedModelError(f"{self.path}: {name}: expected one of {', '.join(_FLOATS)}, got {dtype}")
        array = self.raw(name, rows)
        if dtype == "BF16":
            return widen(array)
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as that
            return array.astype(np.float32, copy=False)

    def checked(self, name: str) -> bool:
        """Whether the tensor is held against a checksum, which is that of the whole."""
        return name in self._checksums

    def require_checksums(self) -> None:
        """Raises CheckpointError if the file was written without checksums."""
        if KEY not in self.metadata:
            raise CheckpointError(f"{self.path}: header: __metadata__: expected {KEY}, the checksums of the tensors")

    def _read(self, name: str, entry: Entry) -> NDArray[np.uint8]:
        """The bytes of what the file calls `name`."""
        expected = self._checksums.get(name)
        begin, count = self._data_begin + entry.begin, entry.end - entry.begin
        if expected is None:
            return self._bytes.read(begin, count)
        values, crc = self._bytes.read_checked(begin, count, tensor_seed(name, entry.dtype, entry.shape))
        if as_text(crc) != expected:
            raise CheckpointError(
                f"{self.path}: {name}: damaged: checksum: expected {expected}, got {as_text(crc)}: get the file again, or "
                "load it as it is with verify=False"
            )
        return values


def _read_header(path: Path, data: FileBytes) -> tuple[dict[str, Any], int]:
    if len(data) < 8:
        raise CheckpointError(f"{path}: truncated: expected a header length of 8 bytes, the file has {len(data)}")
    begin = data.read(0, min(20, len(data))).tobytes()
    if begin == b"version https://git-":
        raise CheckpointError(f"{path}: this is a Git LFS pointer, not the file itself: run 'git lfs pull'")
    length = int.from_bytes(begin[:8], "little")
    if length > _MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{path}: not a safetensors file: header length: expected at most {_MAX_HEADER_BYTES}, got {length}"
        )
    if 8 + length > len(data):
        raise CheckpointError(
            f"{path}: truncated: expected a header of {length} bytes, {len(data) - 8} follow its length"
        )
    try:
        header = json.loads(data.read(8, length).tobytes().decode("utf-8"), object_pairs_hook=_unique)
    except _DuplicateKeyError as error:
        raise CheckpointError(f"{path}: header: {error} occurs twice") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: header: expected JSON: {error}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: header: expected a JSON object, got {type(header).__name__}")
    return header, 8 + length


class _DuplicateKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise _DuplicateKeyError(repr(key))
        result[key] = value
    return result


def _metadata(path: Path, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise CheckpointError(f"{path}: header: __metadata__: expected an object of strings")
    return value


def _entry(path: Path, name: str, value: Any) -> Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        got = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise CheckpointError(f"{path}: header: {name}: expected dtype, shape and data_offsets, got {got}")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str):
        raise CheckpointError(f"{path}: header: {name}: dtype: expected a string, got {dtype!r:.80}")
    if not _naturals(shape):
        raise CheckpointError(f"{path}: header: {name}: shape: expected whole numbers, got {shape!r:.80}")
    if len(shape) > _MAX_DIMENSIONS or math.prod(n or 1 for n in shape) > _MAX_ELEMENTS:
        raise CheckpointError(
            f"{path}: header: {name}: shape: expected at most {_MAX_DIMENSIONS} dimensions and {_MAX_ELEMENTS} elements, "
            f"got {shape!r:.80}"
        )
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{path}: header: {name}: data_offsets: expected [begin, end], got {offsets!r:.80}")
    begin, end = offsets
    known = _DTYPES.get(dtype)
    if known is not None and math.prod(shape) * known.itemsize != end - begin:
        raise CheckpointError(
            f"{path}: header: {name}: {dtype} {shape} takes {math.prod(shape) * known.itemsize} bytes, "
            f"data_offsets {offsets} give it {end - begin}"
        )
    return Entry(dtype, tuple(shape), begin, end)


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(i) is int and 0 <= i < 2**63 for i in value)


def _check_layout(path: Path, entries: dict[str, Entry], data_bytes: int) -> None:
    """The tensors must follow each other without holes or overlaps and end where the file ends."""
    expected = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != expected:
            fault = "overlaps the tensor before it" if entry.begin < expected else "leaves a hole before it"
            raise CheckpointError(f"{path}: header: {name}: {fault}: expected begin {expected}, got {entry.begin}")
        if entry.end > data_bytes:
            raise CheckpointError(
                f"{path}: truncated: {name} ends at data byte {entry.end}, the file has {data_bytes} of them"
            )
        expected = entry.end
    if expected != data_bytes:
        raise CheckpointError(f"{path}: expected {expected} data bytes, got {data_bytes}")

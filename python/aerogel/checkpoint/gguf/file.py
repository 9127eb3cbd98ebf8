"""One GGUF file, opened and checked.

    magic "GGUF", version u32, tensor count u64, metadata count u64
    metadata: key string, type u32, value            (string: length u64, UTF-8; array: type u32, count u64, values)
    tensors:  name string, dimensions u32, each u64 (fastest first), type u32, offset u64
    padding to general.alignment, then the tensors' data at their offsets, little endian

The header is parsed here and not by the `gguf` package's reader, which trusts every count and length in it (a wrong one
sends it into an endless loop) and takes seconds for a vocabulary. Block types that do not run here, and decoding, are that
package's.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aerogel._util.text import not_utf8
from aerogel.checkpoint.file_bytes import FileBytes
from aerogel.checkpoint.gguf.arrays import FileArray
from aerogel.checkpoint.gguf.types import GGMLType, type_of
from aerogel.errors import CheckpointError, UnsupportedModelError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MAX_DIMENSIONS = 4
_LEAST_READ = 64 << 10
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32, _U64 = _SCALARS[4], _SCALARS[10]


class GGUFTensor(NamedTuple):
    """A tensor in the file; `shape` is row-major (slowest first), `begin` and `end` are byte positions."""

    shape: tuple[int, ...]
    type: int
    begin: int
    end: int


class GGUFFile:
    """An open GGUF file: `metadata` by key, `tensors` by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = FileBytes(path)
        self.metadata: dict[str, Any] = {}
        self.tensors: dict[str, GGUFTensor] = {}
        _Parser(path, self._bytes, self.metadata, self.tensors).parse()

    def float32(self, name: str, heads: int = 0, rows: slice | None = None) -> NDArray[np.float32]:
        """The tensor, or these of its rows, decoded.

        Args:
            name: one of `tensors`.
            heads: not 0: undo the row order of GGUF's llama family. There the two halves of each of this many heads
                are interleaved (row pairs rotate together); the result has them one after the other, as Hugging Face.
            rows: None: all of them.

        Raises:
            UnsupportedModelError: the block type cannot be decoded.
        """
        tensor = self.tensors[name]
        if rows is not None and len(tensor.shape) == 1:  # one row to the file
            some: NDArray[np.float32] = self.float32(name, heads)[rows].copy()
            return some
        data = self.rows(name, heads, rows)
        shape = tensor.shape if rows is None else (rows.stop - rows.start, *tensor.shape[1:])
        if self.type_name(name) == "F32":
            return data.reshape(-1).view("<f4").reshape(shape).astype(np.float32, copy=False)
        try:
            from gguf import GGMLQuantizationType, quants
        except ImportError as error:
            raise UnsupportedModelError("decoding GGUF files needs the gguf package: pip install gguf") from error
        try:
            values = quants.dequantize(data, GGMLQuantizationType(tensor.type))
        except NotImplementedError:
            raise UnsupportedModelError(
                f"{self.path}: {name}: blocks of type {self.type_name(name)} cannot be decoded"
            ) from None
        return values.astype(np.float32, copy=False).reshape(shape)

    def type_name(self, name: str) -> str:
        """ggml's name of a tensor's type, "Q4_K"."""
        return _type(self.path, name, self.tensors[name].type).name

    def rows(self, name: str, heads: int = 0, rows: slice | None = None) -> NDArray[np.uint8]:
        """The tensor, or these of its rows, as it is stored, uint8 [rows, bytes of a row]; `heads` as in `float32`."""
        tensor = self.tensors[name]
        _, block, size = _type(self.path, name, tensor.type)
        begin, end, shape = tensor.begin, tensor.end, tensor.shape
        if rows is not None:
            each = (end - begin) // shape[0]
            begin, end = (tensor.begin + each * row for row in (rows.start, rows.stop))
            shape = (rows.stop - rows.start, *shape[1:])
        count, columns = math.prod(shape[:-1]), shape[-1]
        data = self._bytes.read(begin, end - begin).reshape(count, columns // block * size)
        if heads:
            if count % (2 * heads):
                raise CheckpointError(f"{self.path}: {name}: expected rows for {heads} heads, got {list(shape)}")
            # Whole rows move, so they can do so before they are decoded.
            data = data.reshape(heads, count // heads // 2, 2, -1).swapaxes(1, 2).reshape(count, -1)
        return data


class _Parser:
    """Walks the header. Every read is checked against the file's end, so no count or length in it is trusted."""

    def __init__(self, path: Path, data: FileBytes, metadata: dict[str, Any], tensors: dict[str, GGUFTensor]) -> None:
        self._path = path
        self._data = data
        self._head = bytearray()  # of the file, as far as it was needed
        self._at = 0
        self._metadata = metadata
        self._tensors = tensors

    def parse(self) -> None:
        self._need(min(20, len(self._data)))
        magic = bytes(self._head[:4])
        if magic != _MAGIC:
            if self._head[:20] == b"version https://git-":
                raise self._fail("this is a Git LFS pointer, not the file itself: run 'git lfs pull'")
            raise self._fail(f"not a GGUF file: magic: expected {_MAGIC!r}, got {magic!r}")
        self._at = 4
        version = self._scalar(_U32, "version")
        if version not in _VERSIONS:
            big = version & 0xFFFF == 0 and version != 0
            raise UnsupportedModelError(
                f"{self._path}: GGUF version: expected {' or '.join(map(str, _VERSIONS))}, got "
                f"{'a big-endian file' if big else version}"
            )
        tensor_count = self._scalar(_U64, "tensor count")
        for index in range(self._scalar(_U64, "metadata count")):
            key = self._string(f"metadata key {index}")
            if key in self._metadata:
                raise self._fail(f"metadata: {key} occurs twice")
            self._metadata[key] = self._value(key, self._scalar(_U32, key))
        infos = [self._tensor(index) for index in range(tensor_count)]
        self._place(infos)

    def _fail(self, message: str) -> CheckpointError:
        return CheckpointError(f"{self._path}: {message}")

    def _take(self, count: int, what: str) -> int:
        """Advances by `count` bytes, which are read then, and returns where they begin."""
        begin = self._at
        left = len(self._data) - begin
        if count > left:
            raise self._fail(f"truncated: {what}: expected {count} bytes at {begin}, the file has {left} left")
        self._at = begin + count
        self._need(self._at)
        return begin

    def _need(self, end: int) -> None:
        """Reads on until the first `end` bytes are there: ever more at once, since nothing says how long the header is."""
        have = len(self._head)
        if end > have:
            wanted = min(len(self._data), max(end, 2 * have, _LEAST_READ))
            self._head += self._data.read(have, wanted - have).data

    def _scalar(self, kind: struct.Struct, what: str) -> Any:
        return kind.unpack_from(self._head, self._take(kind.size, what))[0]

    def _string(self, what: str) -> str:
        length = self._scalar(_U64, what)
        begin = self._take(length, what)
        try:
            return self._head[begin : begin + length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(not_utf8(f"{self._path}: {what}", error)) from None

    def _value(self, key: str, kind: int) -> Any:
        if kind == _STRING:
            return self._string(key)
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _SCALARS:
            raise self._fail(f"metadata: {key}: unknown value type {kind}")
        return self._scalar(_SCALARS[kind], key)

    def _array(self, key: str) -> Any:
        kind = self._scalar(_U32, key)
        count = self._scalar(_U64, key)
        if kind == _STRING:
            if count * 8 > len(self._data):  # before a list of that length is tried
                raise self._fail(f"truncated: {key}: expected {count} strings, the file has {len(self._data)} bytes")
            begin = self._at
            self._skip_strings(key, count)
            return self._kept(key, FileArray(bytes(self._head[begin : self._at]), count, None))
        if kind == _ARRAY:
            raise UnsupportedModelError(f"{self._path}: metadata: {key}: an array of arrays is not supported")
        if kind not in _SCALARS:
            raise self._fail(f"metadata: {key}: unknown element type {kind}")
        scalar = _SCALARS[kind]
        begin = self._take(count * scalar.size, key)
        return self._kept(key, FileArray(bytes(self._head[begin : self._at]), count, scalar))

    def _kept(self, key: str, array: FileArray) -> FileArray | list[Any]:
        """A vocabulary as it is in the file, any other array as a list."""
        return array if key.startswith("tokenizer.") else list(array)

    def _skip_strings(self, key: str, count: int) -> None:
        """Checks and passes by strings: `_string` again and again, at a fraction of the time."""
        head, have, at, length = self._head, len(self._head), self._at, _U64.unpack_from
        for _ in range(count):
            begin = at + 8
            if begin > have or (at := begin + length(head, begin - 8)[0]) > have:
                self._at = begin - 8
                self._string(key)  # reads on
                have, at = len(head), self._at
                continue
            try:
                head[begin:at].decode("utf-8")
            except UnicodeDecodeError as error:
                raise CheckpointError(not_utf8(f"{self._path}: {key}", error)) from None
        self._at = at

    def _tensor(self, index: int) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string(f"name of tensor {index}")
        dimensions = self._scalar(_U32, name)
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise self._fail(f"{name}: expected 1 to {_MAX_DIMENSIONS} dimensions, got {dimensions}")
        shape = [self._scalar(_U64, name) for _ in range(dimensions)]
        kind = self._scalar(_U32, name)
        return name, tuple(reversed(shape)), kind, self._scalar(_U64, name)

    def _place(self, infos: list[tuple[str, tuple[int, ...], int, int]]) -> None:
        """Checks where the tensors' data lies."""
        alignment = self._metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise self._fail(f"general.alignment: expected a power of two, got {alignment!r:.80}")
        data_begin = -(-self._at // alignment) * alignment
        for name, shape, kind, offset in infos:
            if name in self._tensors:
                raise self._fail(f"tensor {name} occurs twice")
            _, block, size = _type(self._path, name, kind)
            if 0 in shape:
                raise self._fail(f"{name}: expected no empty dimension, got {list(shape)}")
            if shape[-1] % block:
                raise self._fail(f"{name}: expected rows of a multiple of {block} elements, got {list(shape)}")
            if offset % alignment:
                raise self._fail(f"{name}: offset: expected a multiple of {alignment}, got {offset}")
            begin = data_begin + offset
            end = begin + math.prod(shape) // block * size
            if end > len(self._data):
                raise self._fail(f"truncated: {name} ends at byte {end}, the file has {len(self._data)}")
            self._tensors[name] = GGUFTensor(shape, kind, begin, end)
        end, before = data_begin, ""
        for name, tensor in sorted(self._tensors.items(), key=lambda item: item[1].begin):
            if tensor.begin < end:
                raise self._fail(f"{name}: overlaps {before}: expected to begin at {end} or after, got {tensor.begin}")
            end, before = tensor.end, name


def _type(path: Path, name: str, number: int) -> GGMLType:
    """The type of a tensor."""
    found = type_of(number)
    if found is None:
        raise UnsupportedModelError(f"{path}: {name}: unknown block type {number}")
    return found

"""safetensors files with compressed tensors (`--pack small`): a byte tensor X stands as X_small, U8 [bytes].

The blob says dtype and shape (`csrc/codec/codec.h` draws it). Whoever reads the file sees X as if it stood there plain: this
module is all of Python that knows of `_small`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerogel._core import coded_header, decode_bytes, default_threads, encode_bytes
from aerogel.checkpoint.safetensors_file import Entry, SafetensorsFile
from aerogel.checkpoint.safetensors_writer import SafetensorsWriter
from aerogel.errors import CheckpointError

SUFFIX = "_small"
#: Tensors of at least as many bytes are decoded by several threads; smaller ones are many, and decoded side by side.
_SHARED_BYTES = 8 << 20
#: Bytes of a blob that are enough to know type and shape.
_HEADER_BYTES = 80


class SmallSafetensorsFile(SafetensorsFile):
    """A safetensors file in which coded tensors look like plain ones.

    `entries` names them without the suffix and with the decoded dtype and shape; begin and end are those of the blob. A
    coded tensor is decoded anew by each `raw`, without the GIL; nothing of it is kept.
    """

    def __init__(self, path: Path, verify: bool = True) -> None:
        super().__init__(path, verify)
        stored = self.entries
        self._coded: dict[str, Entry] = {}  # the entry of the blob
        self.entries: dict[str, Entry] = {}
        for tensor, entry in stored.items():
            name = tensor.removesuffix(SUFFIX)
            if name == tensor:
                self.entries[name] = entry
                continue
            if name in stored:
                raise CheckpointError(f"{path}: {name} is stored twice, plain and compressed")
            if entry.dtype != "U8" or len(entry.shape) != 1:
                raise CheckpointError(f"{path}: {tensor}: expected U8 [bytes], got {entry.dtype} {list(entry.shape)}")
            dtype, shape = coded_header(f"{path}: {tensor}", self._begin_of(entry), entry.end - entry.begin)
            self._coded[name] = entry
            self.entries[name] = Entry(dtype, shape, entry.begin, entry.end)

    def raw(self, name: str, rows: slice | None = None) -> NDArray[Any]:
        """The tensor, or these of its rows, read anew, and decoded where it is compressed.

        Raises:
            CheckpointError: it is damaged, or the file is shorter by now.
            DataError: the blob is damaged.
            UnsupportedModelError: NumPy has no such type (8-bit floats and the like).
        """
        if name not in self._coded:
            return super().raw(name, rows)
        entry = self.entries[name]
        threads = default_threads() if math.prod(entry.shape) >= _SHARED_BYTES else 1
        blob = self._read(name + SUFFIX, self._coded[name])
        values = decode_bytes(f"{self.path}: {name}{SUFFIX}", blob, threads)
        return values if rows is None else values[rows].copy()

    def stored_bytes(self, name: str) -> int:
        """Bytes of the tensor in the file."""
        return self.entries[name].end - self.entries[name].begin

    def _begin_of(self, entry: Entry) -> NDArray[np.uint8]:
        return self._bytes.read(self._data_begin + entry.begin, min(_HEADER_BYTES, entry.end - entry.begin))


class SmallSafetensorsWriter(SafetensorsWriter):
    """Compresses byte tensors where that makes them smaller: X stands as X_small then."""

    def add(self, name: str, array: np.ndarray) -> int:
        if array.dtype in (np.uint8, np.int8):
            coded = encode_bytes(np.ascontiguousarray(array))
            if coded is not None:
                name, array = name + SUFFIX, coded
        return super().add(name, array)

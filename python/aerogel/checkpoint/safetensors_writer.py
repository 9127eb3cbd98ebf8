"""Writing a safetensors file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aerogel._core import crc32c
from aerogel.checkpoint.checksums import KEY, as_text, tensor_seed

_DTYPES = {
    np.dtype("<i8"): "I64",
    np.dtype("<f4"): "F32",
    np.dtype("<u2"): "BF16",
    np.dtype("<f2"): "F16",
    np.dtype("i1"): "I8",
    np.dtype("u1"): "U8",
}


class SafetensorsWriter:
    """Writes a safetensors file tensor by tensor, never holding more than one in memory.

    A header comes first in the file and depends on everything after it, so data wait in one spool file an element size
    beside the result, and `close` joins them: larger elements first, which keeps all of them aligned.

    With `checksums`, the metadata have one of every tensor (`aerogel.checkpoint.checksums`).
    """

    def __init__(self, path: Path, checksums: bool = False) -> None:
        self._path = path
        self._checksums: dict[str, str] | None = {} if checksums else None
        self._spools: dict[int, Path] = {}
        self._entries: dict[int, list[tuple[str, str, tuple[int, ...], int]]] = {8: [], 4: [], 2: [], 1: []}
        self._names: set[str] = set()
        for size in self._entries:
            self._spools[size] = path.with_name(f"{path.name}.spool{size}")
            self._spools[size].write_bytes(b"")

    def add(self, name: str, array: np.ndarray) -> int:
        """Appends one tensor; returns its bytes in the file."""
        if name in self._names:
            raise ValueError(f"{name} is written twice")
        self._names.add(name)
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        data = array.reshape(-1).view(np.uint8)
        if self._checksums is not None:
            self._checksums[name] = as_text(crc32c(data, tensor_seed(name, _DTYPES[array.dtype], array.shape)))
        with self._spools[array.itemsize].open("ab") as spool:
            spool.write(data.data)
        self._entries[array.itemsize].append((name, _DTYPES[array.dtype], array.shape, array.nbytes))
        return array.nbytes

    def close(self, metadata: Mapping[str, str]) -> None:
        """Writes the file and removes the spools."""
        names = [name for entries in self._entries.values() for name, *_ in entries]
        sums = {} if self._checksums is None else {KEY: " ".join(self._checksums[name] for name in names)}
        header: dict[str, Any] = {"__metadata__": {**metadata, **sums}}
        begin = 0
        for entries in self._entries.values():
            for name, dtype, shape, size in entries:
                header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, begin + size]}
                begin += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(len(text) + 8) % 64)  # so that data begin on a cache line, should the file be mapped
        with self._path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little"))
            file.write(text)
            for size in self._entries:
                with self._spools[size].open("rb") as spool:
                    shutil.copyfileobj(spool, file, 1 << 20)
                self._spools[size].unlink()
            file.flush()
            os.fsync(file.fileno())

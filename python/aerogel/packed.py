"""Writing a packed model: a folder with config.json, the tokenizer's files and model.safetensors.

For a matrix parameter P, float32, bf16, or int8 codes w[n,k] = code[n,k] * P_scale[n]:

    dense    P [N,K]                                                        (+ P_scale float32 [N] for int8)
    sparse   P_bitmask uint8 [N, ceil(K/8)] + P_values [nnz], row-major     (+ P_scale float32 [N] for int8)

Column k is bit k % 8 of byte k // 8 of its row; where K is not a multiple of 8, P_shape int64 [2] holds N and K. Norms
and biases are float32 under their own names. A U8 or I8 tensor X may be compressed, as X_small U8 [bytes]. The same model
and recipe give the same bytes. `aerogel.checkpoint` reads it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aerogel import _core
from aerogel.checkpoint.base import Weight
from aerogel.checkpoint.small import SUFFIX as SMALL
from aerogel.quantize import Quantized

FORMAT_VERSION = 1
#: Suffixes of the tensors that hold a matrix parameter.
BITMASK, VALUES, SCALE, SHAPE = "_bitmask", "_values", "_scale", "_shape"

_DTYPES = {
    np.dtype("<i8"): "I64",
    np.dtype("<f4"): "F32",
    np.dtype("<u2"): "BF16",
    np.dtype("i1"): "I8",
    np.dtype("u1"): "U8",
}


class SafetensorsWriter:
    """Writes a safetensors file tensor by tensor, never holding more than one in memory.

    With `small`, byte tensors are compressed where that makes them smaller: X stands as X_small then.

    A header comes first in the file and depends on everything after it, so data wait in one spool file an element size
    beside the result, and `close` joins them: larger elements first, which keeps all of them aligned.
    """

    def __init__(self, path: Path, small: bool = False) -> None:
        self._path = path
        self._small = small
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
        if self._small and array.dtype in (np.uint8, np.int8):
            coded = _core.encode_bytes(np.ascontiguousarray(array))
            if coded is not None:
                name, array = name + SMALL, coded
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        with self._spools[array.itemsize].open("ab") as spool:
            spool.write(array.reshape(-1).view(np.uint8).data)
        self._entries[array.itemsize].append((name, _DTYPES[array.dtype], array.shape, array.nbytes))
        return array.nbytes

    def close(self, metadata: Mapping[str, str]) -> None:
        """Writes the file and removes the spools."""
        header: dict[str, Any] = {"__metadata__": dict(metadata)}
        begin = 0
        for entries in self._entries.values():
            for name, dtype, shape, size in entries:
                header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, begin + size]}
                begin += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(len(text) + 8) % 64)  # data begin on a cache line of the mapped file
        with self._path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little"))
            file.write(text)
            for size in self._entries:
                with self._spools[size].open("rb") as spool:
                    shutil.copyfileobj(spool, file, 1 << 20)
                self._spools[size].unlink()
            file.flush()
            os.fsync(file.fileno())


def to_weight(quantized: Quantized, sparse: bool | None = None) -> Weight:
    """The stored form of a matrix: sparse where that is smaller, or as `sparse` says.

    Stored values are those that are not zero: a weight that quantizes to zero is as good as pruned.
    """
    values = quantized.values
    n, k = values.shape
    stored = values != 0
    if sparse is None:
        mask_bytes = n * -(-k // 8)
        sparse = mask_bytes + int(np.count_nonzero(stored)) * values.itemsize < values.nbytes
    if not sparse:
        return Weight((n, k), np.ascontiguousarray(values), quantized.scale)
    return Weight((n, k), values[stored], quantized.scale, np.packbits(stored, axis=1, bitorder="little"))


def add_weight(writer: SafetensorsWriter, name: str, weight: Weight) -> int:
    """Writes one matrix parameter; returns its bytes."""
    size = 0
    if weight.mask is None:
        size += writer.add(name, weight.values)
    else:
        size += writer.add(name + BITMASK, weight.mask)
        size += writer.add(name + VALUES, weight.values)
        if weight.shape[1] % 8:
            size += writer.add(name + SHAPE, np.array(weight.shape, np.int64))
    if weight.scale is not None:
        size += writer.add(name + SCALE, weight.scale)
    return size


def packed_config(config: Mapping[str, Any], recipe: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The model's config with the entry that says how it was packed."""
    return {
        **config,
        "quantization_config": {
            "quant_method": "aerogel",
            "format_version": FORMAT_VERSION,
            "aerogel_version": version,
            "recipe": dict(recipe),
        },
    }


def is_packed(folder: Path) -> bool:
    """Whether the folder holds a packed model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return config["quantization_config"]["quant_method"] == "aerogel"
    except (OSError, ValueError, KeyError, TypeError):
        return False

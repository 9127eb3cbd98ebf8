"""Writing a packed model: a folder with config.json, the tokenizer's files and model.safetensors.

What tensors hold a matrix parameter, `aerogel.checkpoint.packed` says; it reads them. Norms and biases are float32
under their own names. A U8 or I8 tensor X may be compressed: X_small U8 [bytes]. The same model and recipe give the same
bytes.
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
from aerogel.bits import bits_for, mask_pays, pack_bits
from aerogel.checkpoint.base import Weight
from aerogel.checkpoint.small import SUFFIX as SMALL
from aerogel.groups import per_column
from aerogel.quantize import Quantized

FORMAT_VERSION = 2
#: Suffixes of the tensors that hold a matrix parameter.
BITMASK, VALUES, SCALE, SHAPE = "_bitmask", "_values", "_scale", "_shape"
INDEX, PACKED, LEVELS, MULTIPLIER, ZERO, GROUP = "_index", "_packed", "_levels", "_multiplier", "_zero", "_group"
INPUT_LIMIT = "_input_limit"

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

    Stored values are those that are not zero: a weight that quantizes to zero is as good as pruned. Indices take as few
    bits as tell the levels apart.
    """
    values = quantized.values
    n, k = values.shape
    stored = values != 0
    levels = quantized.levels
    bits = 8 * values.itemsize if levels is None else bits_for(len(levels))
    if sparse is None:
        sparse = mask_pays((n, k), values.size - int(np.count_nonzero(stored)), bits)
    mask = np.packbits(stored, axis=1, bitorder="little") if sparse else None
    if levels is None:
        kept = values[stored] if sparse else np.ascontiguousarray(values)
        return Weight((n, k), kept, quantized.scale, mask, quantized.group)
    if not sparse and not stored.all() and quantized.zero is None and 0 not in levels:  # the mask would have told
        levels = np.union1d(levels, np.int8(0))
        bits = bits_for(len(levels))
    index = _indices(quantized, levels)
    packed = pack_bits(index[stored] if sparse else index, bits)
    table = (levels, bits, quantized.multiplier, quantized.zero)
    return Weight((n, k), packed, quantized.scale, mask, quantized.group, *table)


def _indices(quantized: Quantized, levels: np.ndarray) -> np.ndarray:
    """The codes as indices, uint8 [N,K]; of no meaning where a code 0 is not in the table."""
    steps = quantized.values.astype(np.int16)
    if quantized.multiplier is not None:
        steps //= np.maximum(per_column(quantized.multiplier, quantized.group, steps.shape[1]), 1)
    if quantized.zero is not None:
        steps += per_column(quantized.zero, quantized.group, steps.shape[1])
    table = np.zeros(512, np.uint8)
    table[levels.astype(int) + 256] = np.arange(len(levels))
    return table[steps + 256]


def add_weight(writer: SafetensorsWriter, name: str, weight: Weight, limit: float | None = None) -> int:
    """Writes one matrix parameter; returns its bytes. `limit`: see `Checkpoint.input_limit`."""
    k = weight.shape[1]
    indices = weight.levels is not None
    suffix = (PACKED if weight.bits < 8 else INDEX) if indices else VALUES if weight.mask is not None else ""
    parts = {
        BITMASK: weight.mask,
        suffix: weight.values,
        SCALE: weight.scale,
        LEVELS: weight.levels,
        MULTIPLIER: weight.multiplier,
        ZERO: weight.zero,
        GROUP: np.array([weight.group], np.int64) if weight.group else None,
        INPUT_LIMIT: None if limit is None else np.array([limit], np.float32),
        # where the other shapes do not tell K
        SHAPE: np.array(weight.shape, np.int64) if k % 8 and (weight.mask is not None or suffix == PACKED) else None,
    }
    return sum(writer.add(name + suffix, part) for suffix, part in parts.items() if part is not None)


def packed_config(
    config: Mapping[str, Any], recipe: Mapping[str, Any], version: str, sources: Mapping[str, str], folded: bool = False
) -> dict[str, Any]:
    """The model's config with the entry that says how it was packed; `folded`: see `aerogel.architectures.is_folded`."""
    return {
        **config,
        "quantization_config": {
            "quant_method": "aerogel",
            "format_version": FORMAT_VERSION,
            "aerogel_version": version,
            "recipe": dict(recipe),
            "sources": dict(sources),
            **({"folded": True} if folded else {}),
        },
    }


def is_packed(folder: Path) -> bool:
    """Whether the folder holds a packed model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return config["quantization_config"]["quant_method"] == "aerogel"
    except (OSError, ValueError, KeyError, TypeError):
        return False

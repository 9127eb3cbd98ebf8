"""Checkpoints in the compressed-tensors format, as llm-compressor writes them: quantized, sparse, or both.

The container is an ordinary Hugging Face folder; `config.json` says which modules are quantized and how. Each file of this
package is one part of that:

    config      what config.json says            sparse     tensors behind bit masks, undone first
    targets     which modules a group means      quantized  integers and 8-bit floats with their scales
    packed      integers of 1 to 8 bits in words

Not read: 4-bit floats (nvfp4, mxfp4), mxfp8, marlin-24. Not used: scales of the KV cache, and static scales of activations
that are not symmetric int8 (`static_input` gives them): the engine quantizes each token by its own then.
"""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aerogel.checkpoint.compressed_tensors.config import find_compression, parse_compression, without_compression
from aerogel.checkpoint.compressed_tensors.quantized import (
    EIGHT_BIT_FLOATS,
    PARTS,
    Quantized,
    StaticInput,
    to_float32,
    without_stored_zeros,
)
from aerogel.checkpoint.compressed_tensors.sparse import Stored, collect
from aerogel.checkpoint.compressed_tensors.targets import group_of
from aerogel.checkpoint.config import read_config, read_optional_json
from aerogel.checkpoint.fused import end_to_end, split_fused, transposed
from aerogel.checkpoint.names import normalize_all
from aerogel.checkpoint.safetensors import FolderCheckpoint
from aerogel.checkpoint.sentence_transformers import read_sentence_transformer
from aerogel.checkpoint.tensor_files import TensorFiles
from aerogel.checkpoint.weight import Weight, check_finite, check_matrix
from aerogel.errors import CheckpointError, MissingTensorsError, UnsupportedModelError
from aerogel.numbers.int8 import check_limit

__all__ = ["CompressedTensorsCheckpoint", "StaticInput", "detect", "read"]

log = logging.getLogger("aerogel")

_FLOATS = ("F32", "F16", "BF16")
_ACTIVATIONS = ("input_scale", "input_zero_point", "output_scale", "output_zero_point")
_CACHE = ("k_scale", "v_scale", "q_scale", "k_zero_point", "v_zero_point", "q_zero_point")
_REFUSED = {
    "scale_packed": "marlin-24",
    "weight_global_scale": "nvfp4-pack-quantized",
    "input_global_scale": "nvfp4-pack-quantized",
}


def detect(path: Path) -> bool:
    """A folder, or a lone .safetensors file in one, whose config.json names compressed-tensors."""
    if not path.is_dir() and path.suffix != ".safetensors":
        return False
    return find_compression(read_optional_json(_model_folder(path) / "config.json")) is not None


def read(path: Path, verify: bool = True) -> CompressedTensorsCheckpoint:
    """Opens the folder, or the folder around the file."""
    return CompressedTensorsCheckpoint(path, verify)


def _root(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _model_folder(path: Path) -> Path:
    sentence = read_sentence_transformer(_root(path))
    return sentence.model_folder if sentence else _root(path)


class CompressedTensorsCheckpoint(FolderCheckpoint):
    """A compressed-tensors folder. `config` is that of the decoded model; `compression` what the file says of its form.

    A matrix that is decoded is decoded anew each time it is read.
    """

    kind = "compressed-tensors"

    def __init__(self, path: Path, verify: bool = True) -> None:
        folder = _model_folder(path)
        files = TensorFiles(folder, None if path.is_dir() else path, verify)
        config = read_config(folder)
        sentence = read_sentence_transformer(_root(path))
        if sentence is not None:
            files.add(sentence.files)
        super().__init__(path, folder, sentence, without_compression(config))
        where = str(folder / "config.json")
        self.compression = parse_compression(find_compression(config) or {}, where)
        self._plain, self._quantized, self._activations = self._sort(collect(files), where)
        stored = normalize_all((*self._plain, *self._quantized), config, folder)
        if turned := sorted(transposed(stored, config)):
            # No tool writes such, as they quantize linears only, which these are not in PyTorch.
            raise UnsupportedModelError(
                f"{folder}: {turned[0]}: weights that are transposed are read from float files only"
            )
        self._stored, self._rows = end_to_end(split_fused(stored, self._row_count, config, folder), folder)

    def names(self) -> list[str]:
        return self._names

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self._stored)

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def shape(self, name: str) -> tuple[int, ...]:
        shape, rows = self._find(name).shape, self._rows.get(name)
        return shape if rows is None else (rows.stop - rows.start, *shape[1:])

    def array(self, name: str) -> NDArray[np.float32]:
        found = self._find(name)
        if isinstance(found, Quantized):
            return self.weight(name).dense()
        _expect_floats(found)
        values = to_float32(found)
        check_finite(found.where, values)
        return values if name not in self._rows else values[self._rows[name]].copy()

    def weight(self, name: str) -> Weight:
        whole, rows = self._whole(name), self._rows.get(name)
        return whole if rows is None else whole.rows(rows)

    def _whole(self, name: str) -> Weight:
        """The matrix that has the parameter's rows, as the file has it."""
        found = self._find(name)
        if isinstance(found, Quantized):
            weight = found.weight()
            if weight.scale is None and (lowest := found.lowest_codes()):
                log.info(
                    "%s: %d codes are -128, which the int8 kernels do not have: it runs as float32. 'aerogel compress' with "
                    "sparsity 0 makes it int8 again",
                    name,
                    lowest,
                )
            return weight
        _expect_floats(found)
        shape = check_matrix(found.where, found.shape)
        stored = found.sparse()
        values = found.dense() if stored is None else stored[0]
        if found.dtype != "BF16":
            values = values.astype(np.float32, copy=False)
        check_finite(found.where, values)
        if stored is None:
            return Weight(shape, values)
        return without_stored_zeros(Weight(shape, values, None, stored[1]))

    def static_input(self, name: str) -> StaticInput | None:
        """What calibration found for the input of the linear whose weight is `name`; None where the file has nothing."""
        stored = self._stored.get(name)
        if stored is None:
            raise MissingTensorsError(self.path, [name])
        parts = self._activations.get(stored.removesuffix(".weight"), {})
        if "input_scale" not in parts:
            return None
        values = [to_float32(parts[part]) if part in parts else None for part in _ACTIVATIONS[:2]]
        for part, value in zip(_ACTIVATIONS, values):
            if value is not None and (value.size != 1 or not np.isfinite(value).all()):
                raise CheckpointError(f"{parts[part].where}: expected one finite number, got {value.size} of them")
        scale, zero = values
        assert scale is not None
        return StaticInput(float(scale.reshape(-1)[0]), 0.0 if zero is None else float(zero.reshape(-1)[0]))

    def input_limit(self, name: str) -> float | None:
        known = self.static_input(name)
        module = self._stored[name].removesuffix(".weight")
        if known is None or known.zero_point != 0 or not self._has_symmetric_inputs(module):
            return None
        limit = float(np.float32(known.scale) * np.float32(127))
        check_limit(self._activations[module]["input_scale"].where, limit)
        return limit

    def _has_symmetric_inputs(self, module: str) -> bool:
        group = group_of(module, self.compression, str(self.path))
        return group is not None and group.activations == "static" and group.symmetric_inputs

    def _find(self, name: str) -> Stored | Quantized:
        stored = self._stored.get(name)
        if stored is None:
            raise MissingTensorsError(self.path, [name])
        return self._quantized.get(stored) or self._plain[stored]

    def _row_count(self, stored: str) -> int:
        shape = (self._quantized.get(stored) or self._plain[stored]).shape
        return shape[0] if shape else 0

    def _sort(
        self, tensors: dict[str, Stored], where: str
    ) -> tuple[dict[str, Stored], dict[str, Quantized], dict[str, dict[str, Stored]]]:
        """Parameters as they are, quantized matrices by the name of their weight, and activations' scales by module."""
        plain: dict[str, Stored] = {}
        modules: dict[str, dict[str, Stored]] = {}
        activations: dict[str, dict[str, Stored]] = {}
        caches = 0
        for name, stored in tensors.items():
            module, _, part = name.rpartition(".")
            if part in _REFUSED:
                raise UnsupportedModelError(
                    f"{stored.where}: {_REFUSED[part]} is not supported: give the original model, or one saved as "
                    "int-quantized, float-quantized or pack-quantized"
                )
            if part in PARTS:
                modules.setdefault(module, {})[part] = stored
            elif part in _ACTIVATIONS:
                activations.setdefault(module, {})[part] = stored
            elif part in _CACHE:
                caches += 1
            else:
                plain[name] = stored
        if caches or self.compression.has_kv_cache_scheme:
            log.info("%s: scales for a quantized KV cache are not used: the cache is float32", where)
        if not all(self._has_symmetric_inputs(module) for module in activations):
            log.info("%s: static scales of activations are not used: the engine quantizes each token by its own", where)
        quantized: dict[str, Quantized] = {}
        as_they_are: list[str] = []
        for name, stored in plain.items():  # a weight without a scale beside it: named below
            if stored.dtype in ("I8", *EIGHT_BIT_FLOATS) and name.endswith(".weight"):
                modules.setdefault(name.removesuffix(".weight"), {})
        for module, parts in modules.items():
            weight = plain.get(module + ".weight")
            if weight is not None and weight.dtype in _FLOATS and "weight_packed" not in parts:
                as_they_are.append(module)
                continue
            if weight is not None:
                parts["weight"] = plain.pop(module + ".weight")
            quantized[module + ".weight"] = self._matrix(module, parts, where)
        rounded = [module for module in modules if self._runs_as_codes(module + ".weight", quantized, where)]
        if rounded:
            log.info(
                "%s: %d matrices stay integers, so the engine quantizes their inputs too, though the config does not",
                where,
                len(rounded),
            )
        if as_they_are:
            log.info(
                "%s: weights that have scales but are floats are taken as they are: %s", where, ", ".join(as_they_are)
            )
        return plain, quantized, activations

    def _matrix(self, module: str, parts: dict[str, Stored], where: str) -> Quantized:
        group = group_of(module, self.compression, where)
        if group is None or group.weights is None:
            reason = "no group targets it, or ignore names it" if group is None else f"{group.name} has no weights"
            raise CheckpointError(f"{where}: {module} is stored quantized, but {reason}")
        return Quantized(module, parts, group.weights, self.compression)

    def _runs_as_codes(self, name: str, quantized: dict[str, Quantized], where: str) -> bool:
        group = group_of(name.removesuffix(".weight"), self.compression, where)
        return name in quantized and quantized[name].has_row_scales and group is not None and group.activations is None


def _expect_floats(stored: Stored) -> None:
    if stored.dtype not in _FLOATS:
        raise UnsupportedModelError(f"{stored.where}: expected one of {', '.join(_FLOATS)}, got {stored.dtype}")

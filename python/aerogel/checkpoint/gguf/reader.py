"""GGUF files, as llama.cpp uses them: one file with config, tokenizer and (usually quantized) weights.

The engine runs quantized weights in their own blocks; whoever else asks gets them decoded to float32. Metadata becomes a
Hugging Face style config and tensor names become Hugging Face's, by the table of the model family (`Architecture.gguf`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerogel._core import block_types
from aerogel.architectures import Dense, GGUFNames, Pooling, gguf_names
from aerogel.checkpoint.blocks import Blocks
from aerogel.checkpoint.chat import ChatTemplates, gguf_templates
from aerogel.checkpoint.checkpoint import Checkpoint
from aerogel.checkpoint.config import check_config
from aerogel.checkpoint.fused import end_to_end, split_fused
from aerogel.checkpoint.gguf.file import GGUFFile
from aerogel.checkpoint.gguf.settings import check_metadata
from aerogel.checkpoint.gguf.tokenizer import tokenizer_from_metadata
from aerogel.checkpoint.sentence_modules import STEP
from aerogel.checkpoint.tokenizer import Tokenizer
from aerogel.checkpoint.weight import Weight, check_finite, check_matrix
from aerogel.errors import CheckpointError, ConfigError, MissingTensorsError, UnsupportedModelError

#: llama.cpp's pooling types; 0 says that there is none.
_POOLING = {0: None, 1: "mean", 2: "cls", 3: "last"}
#: The one of a reranker, whose classifier ends in this tensor.
_RANK, _LAST = 4, "cls.output.weight"

#: Types of two bytes that stay what they are: how the file has them, and what they are here (bf16 has no type in NumPy).
_HALVES = {"BF16": ("<u2", np.uint16), "F16": ("<f2", np.float16)}


def detect(path: Path) -> bool:
    """A .gguf file, or a folder with exactly one and no safetensors."""
    return _file(path) is not None


def read(path: Path, verify: bool = True) -> GGUFCheckpoint:
    """Opens the file, or the one in the folder. GGUF has no checksums to verify."""
    return GGUFCheckpoint(_file(path) or path)


def _file(path: Path) -> Path | None:
    if path.suffix == ".gguf" and not path.is_dir():
        return path
    if path.is_file():
        with path.open("rb") as file:
            return path if file.read(4) == b"GGUF" else None
    found = sorted(path.glob("*.gguf"))
    if len(found) > 1 and not list(path.glob("*.safetensors")):
        names = ", ".join(file.name for file in found)
        raise CheckpointError(f"{path}: expected one .gguf file, found {names}: give the path of one")
    return found[0] if len(found) == 1 and not list(path.glob("*.safetensors")) else None


class GGUFCheckpoint(Checkpoint):
    """A GGUF file's weights, read one at a time."""

    kind = "gguf"

    def __init__(self, path: Path) -> None:
        self._file = GGUFFile(path)
        metadata = self._file.metadata
        name = metadata.get("general.architecture")
        known = gguf_names()
        if not isinstance(name, str) or name not in known:
            raise UnsupportedModelError(
                f"{path}: general.architecture: expected one of {', '.join(known)}, got {name!r:.80}"
            )
        if metadata.get("split.count", 1) not in (0, 1):  # 0: what llama-gguf-split writes when it merges
            raise UnsupportedModelError(
                f"{path}: this is one of {metadata['split.count']} parts: merge them first (llama-gguf-split --merge)"
            )
        names = known[name]
        config = _Reader(self._file, name).config(names)
        super().__init__(path, config)
        check_metadata(metadata, names, name, path)
        self._stored, self._rows = end_to_end(
            split_fused(
                _translate(self._file, names), lambda stored: self._file.tensors[stored].shape[0], config, path
            ),
            path,
        )
        self._zeros = {
            tensor: tuple(config[key] for key in keys)
            for tensor, keys in names.zeros.items()
            if tensor not in self._stored
        }
        self._norm_offset = names.norm_offset
        self._pooling = _pooling(self._file, f"{name}.pooling_type", names)
        self._heads = {tensor: config.get(key, 0) for tensor, key in names.interleaved.items()}

    def names(self) -> list[str]:
        return self._names

    @cached_property
    def _names(self) -> list[str]:
        return sorted([*self._stored, *self._zeros])

    def __contains__(self, name: object) -> bool:
        return name in self._stored or name in self._zeros

    def shape(self, name: str) -> tuple[int, ...]:
        if name in self._zeros:
            return self._zeros[name]
        shape, rows = self._file.tensors[self._find(name)].shape, self._rows.get(name)
        return shape if rows is None else (rows.stop - rows.start, *shape[1:])

    def array(self, name: str) -> NDArray[np.float32]:
        if name in self._zeros:
            return np.zeros(self._zeros[name], np.float32)
        stored = self._find(name)
        heads = self._heads.get(stored.split(".")[-2], 0)
        # A bias is one row to the file, but its elements are the rows that interleave.
        if heads and len(self.shape(name)) == 1:
            flat = self._file.float32(stored)
            if flat.size % (2 * heads):
                raise CheckpointError(f"{self.path}: {stored}: expected {heads} heads, got {flat.size} elements")
            values: NDArray[np.float32] = flat.reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
        else:
            values = self._file.float32(stored, heads, self._rows.get(name))
        check_finite(f"{self.path}: {stored}", values)
        return values - np.float32(self._norm_offset) if self._norm_offset and name.endswith("norm.weight") else values

    def weight(self, name: str) -> Weight:
        shape = check_matrix(f"{self.path}: {name}", self.shape(name))
        return Weight(shape, self.array(name))

    @cached_property
    def chat_templates(self) -> ChatTemplates:
        return gguf_templates(self._file.metadata, self.path)

    def blocks(self, name: str, rows: int) -> Iterator[NDArray[np.float32]]:
        stored = "" if name in self._zeros else self._find(name)
        if not stored or self._heads.get(stored.split(".")[-2], 0):  # its rows stand in another order
            yield from super().blocks(name, rows)
            return
        where = f"{self.path}: {name}"
        count, _ = check_matrix(where, self.shape(name))
        part = self._rows.get(name)
        first = 0 if part is None else part.start
        for begin in range(0, count, rows):
            block = self._file.float32(stored, rows=slice(first + begin, first + min(begin + rows, count)))
            check_finite(where, block)
            yield block

    def stored(self, name: str) -> Weight | Blocks:
        shape = check_matrix(f"{self.path}: {name}", self.shape(name))
        if name in self._zeros:
            return self.weight(name)
        stored = self._find(name)
        heads = self._heads.get(stored.split(".")[-2], 0)
        kind = self.block_type(name)
        if kind is not None:
            return Blocks(shape, self._file.rows(stored, heads, self._rows.get(name)), kind)
        half = _HALVES.get(self._file.type_name(stored))
        if half is None:
            return self.weight(name)
        values = self._file.rows(stored, heads, self._rows.get(name)).view(half[0]).astype(half[1], copy=False)
        check_finite(f"{self.path}: {stored}", values)
        return Weight(shape, values)

    def block_type(self, name: str) -> str | None:
        kind = None if name in self._zeros else self._file.type_name(self._find(name))
        return kind if kind in block_types() else None

    @property
    def pooling(self) -> Pooling | None:
        return self._pooling

    def _load_tokenizer(self) -> Tokenizer:
        return tokenizer_from_metadata(self._file.metadata, self.path)

    def _find(self, name: str) -> str:
        stored = self._stored.get(name)
        if stored is None:
            raise MissingTensorsError(self.path, [name])
        return stored


#: What no family can do without and no default stands for.
_REQUIRED = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)


class _Reader:
    """Reads metadata with its types checked."""

    def __init__(self, file: GGUFFile, prefix: str) -> None:
        self._file = file
        self._prefix = prefix

    def config(self, names: GGUFNames) -> dict[str, Any]:
        metadata = self._file.metadata
        config: dict[str, Any] = dict(names.defaults)
        for key, suffix in names.keys.items():
            value = metadata.get(f"{self._prefix}.{suffix}")
            if value is not None:
                # Floats are stored in 32 bits: the shortest number that means the same, 1e-05 and not 9.99999974e-06.
                config[key] = float(str(np.float32(value))) if isinstance(value, float) else value
        missing = [f"{self._prefix}.{names.keys[key]}" for key in _REQUIRED if key not in config]
        if missing:
            raise ConfigError(f"{self._file.path}: metadata is missing: {', '.join(missing)}")
        for key in ("bos_token_id", "eos_token_id", "padding_token_id"):
            value = metadata.get(f"tokenizer.ggml.{key}")
            if value is not None:
                config[key.replace("padding", "pad")] = value
        embedding = self._file.tensors.get("token_embd.weight")
        if embedding is None:
            raise MissingTensorsError(self._file.path, ["token_embd.weight"])
        config["vocab_size"] = embedding.shape[0]
        check_config(config, self._file.path)
        names.finish(self._file, config)
        return config


def _pooling(file: GGUFFile, key: str, names: GGUFNames) -> Pooling | None:
    kind = file.metadata.get(key, 0)
    if type(kind) is not int:
        raise ConfigError(f"{file.path}: {key}: expected a whole number, got {kind!r:.80}")
    if kind == _RANK and _LAST in file.tensors:
        return None
    if kind not in _POOLING:
        known = ", ".join(f"{number} ({mode or 'none'})" for number, mode in _POOLING.items())
        raise UnsupportedModelError(f"{file.path}: {key}: expected one of {known}, got {kind}")
    mode = _POOLING[kind]
    return Pooling((mode,), normalize=True, steps=_dense(file, names)) if mode else None


def _dense(file: GGUFFile, names: GGUFNames) -> tuple[Dense, ...]:
    """The linears after the pooling, which sentence-transformers has as modules."""
    steps = []
    for stored, name in names.tensors.items():
        if name.startswith(STEP.partition("{")[0]) and stored in file.tensors:
            outputs, inputs = check_matrix(f"{file.path}: {stored}", file.tensors[stored].shape)
            steps.append(Dense(name.removesuffix(".weight"), inputs, outputs, bias=False, activation=None))
    return tuple(steps)


def _translate(file: GGUFFile, names: GGUFNames) -> dict[str, str]:
    """Hugging Face name -> name in the file. A tensor that no table knows means that the model computes something else."""
    result: dict[str, str] = {}
    unknown = []
    for name in file.tensors:
        block = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
        target = names.blocks.get(block[2]) if block else names.tensors.get(name)
        if block and block[2] in names.whole:
            part, whole = names.whole[block[2]]
            target = target if f"blk.{block[1]}.{part}" in file.tensors else whole
        if target is not None:
            result[target.format(n=block[1]) if block else target] = name
        elif name not in names.ignored:
            unknown.append(name)
    if unknown:
        shown = ", ".join(unknown[:8]) + (", ..." if len(unknown) > 8 else "")
        raise UnsupportedModelError(f"{file.path}: {len(unknown)} tensors of unknown meaning: {shown}")
    return result

"""Hugging Face folders: config.json, tokenizer files and model.safetensors, in one file or in shards.

sentence-transformers folders are the same with modules.json on top.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aerogel.checkpoint.base import Checkpoint, Weight, check_finite, check_matrix
from aerogel.checkpoint.config import read_config, read_json
from aerogel.checkpoint.names import normalize_all
from aerogel.checkpoint.pooling import Pooling, SentenceTransformer, read_sentence_transformer
from aerogel.checkpoint.safetensors_file import SafetensorsFile
from aerogel.checkpoint.tokenizer import Tokenizer, load_tokenizer
from aerogel.errors import CheckpointError, MissingTensorsError, UnsupportedModelError

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


def detect(path: Path) -> bool:
    """A folder, or a lone .safetensors file inside one."""
    return path.is_dir() or path.suffix == ".safetensors"


def read(path: Path) -> SafetensorsCheckpoint:
    """Opens the folder, or the folder around the file."""
    return SafetensorsCheckpoint(path)


class FolderCheckpoint(Checkpoint):
    """What every Hugging Face style folder has: a tokenizer and, perhaps, sentence-transformers files."""

    def __init__(self, path: Path, folder: Path, sentence: SentenceTransformer | None, config: dict[str, Any]) -> None:
        super().__init__(path, config)
        self._folder = folder
        self._sentence = sentence

    def _load_tokenizer(self) -> Tokenizer:
        return load_tokenizer(self._folder, self.config, self._sentence is not None and self._sentence.lowercase)

    @property
    def pooling(self) -> Pooling | None:
        return self._sentence.pooling if self._sentence else None

    @property
    def max_tokens(self) -> int | None:
        return self._sentence.max_tokens if self._sentence else None


class SafetensorsCheckpoint(FolderCheckpoint):
    """Float weights (F32, F16, BF16) in safetensors."""

    kind: ClassVar[str] = "safetensors"

    def __init__(self, path: Path) -> None:
        lone = path if path.suffix == ".safetensors" and path.is_file() else None
        root = path.parent if lone else path
        sentence = read_sentence_transformer(root)
        folder = sentence.model_folder if sentence else root
        # Weights first: a folder without any is not a model, whatever else it lacks.
        self._files = {lone.name: SafetensorsFile(lone)} if lone else {}
        self._file_of = self._index(folder)
        config = read_config(folder)
        super().__init__(path, folder, sentence, config)
        method = config.get("quantization_config")
        if method is not None:
            name = method.get("quant_method") if isinstance(method, dict) else None
            raise UnsupportedModelError(
                f"{folder / 'config.json'}: the weights are quantized already ({name!r}): give the original model"
            )
        self._stored = normalize_all(self._file_of, folder)

    def names(self) -> list[str]:
        return self._names

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self._stored)

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def shape(self, name: str) -> tuple[int, ...]:
        file, stored = self._find(name)
        return file.entries[stored].shape

    def array(self, name: str) -> NDArray[np.float32]:
        file, stored = self._find(name)
        values = file.float32(stored)
        check_finite(f"{file.path}: {stored}", values)
        return values

    def weight(self, name: str) -> Weight:
        file, stored = self._find(name)
        where = f"{file.path}: {stored}"
        shape = check_matrix(where, file.entries[stored].shape)
        if file.entries[stored].dtype == "BF16":  # as it lies in the file: the same numbers in half the memory
            values = file.raw(stored)
            check_finite(where, values)
            return Weight(shape, values)
        return Weight(shape, self.array(name))

    def release(self, name: str) -> None:
        file, stored = self._find(name)
        file.release(stored)

    def _find(self, name: str) -> tuple[SafetensorsFile, str]:
        stored = self._stored.get(name)
        if stored is None:
            raise MissingTensorsError(self.path, [name])
        return self._files[self._file_of[stored]], stored

    def _index(self, folder: Path) -> dict[str, str]:
        """Opens the files and maps each tensor to the name of its file."""
        if not self._files and not (folder / _SINGLE).exists() and (folder / _INDEX).exists():
            return self._sharded(folder)
        if not self._files:
            file = weight_file(folder)
            self._files[file.name] = SafetensorsFile(file)
        [(name, only)] = self._files.items()
        return dict.fromkeys(only.entries, name)

    def _sharded(self, folder: Path) -> dict[str, str]:
        path = folder / _INDEX
        index = read_json(path).get("weight_map")
        if not isinstance(index, dict) or not index or not all(isinstance(file, str) for file in index.values()):
            raise CheckpointError(f"{path}: weight_map: expected an object from tensor names to file names")
        shards = sorted(set(index.values()))
        outside = [name for name in shards if Path(name).name != name]
        if outside:
            raise CheckpointError(f"{path}: expected the names of files in the same folder, got {', '.join(outside)}")
        absent = [name for name in shards if not (folder / name).is_file()]
        if absent:
            raise CheckpointError(f"{path}: {len(absent)} of {len(shards)} shards are missing: {', '.join(absent)}")
        self._files = {name: SafetensorsFile(folder / name) for name in shards}
        lost = [f"{name} (in {file})" for name, file in index.items() if name not in self._files[file].entries]
        if lost:
            raise MissingTensorsError(path, lost)
        return index


def weight_file(folder: Path) -> Path:
    """The folder's one safetensors file, or a CheckpointError that says what was found instead."""
    if (folder / _SINGLE).exists():
        return folder / _SINGLE
    found = sorted(folder.glob("*.safetensors"))
    if (folder / "adapter_config.json").exists():
        raise UnsupportedModelError(f"{folder}: this is an adapter, not a model: merge it into its base model first")
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(file.name for file in found)
        raise CheckpointError(f"{folder}: expected {_SINGLE} or {_INDEX}, found {names}")
    for pattern in ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt"):
        for old in sorted(folder.glob(pattern)):
            raise CheckpointError(
                f"{folder}: the weights are in PyTorch's pickle format ({old.name}), which can run code when read. "
                "Convert them once: transformers.AutoModel.from_pretrained(folder).save_pretrained(new_folder, "
                "safe_serialization=True)"
            )
    raise CheckpointError(f"{folder}: expected {_SINGLE}, {_INDEX} or a .gguf file, found no weights")

"""The tensors of a model in safetensors: one file, or the shards that model.safetensors.index.json lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerogel.checkpoint.config import read_json
from aerogel.checkpoint.safetensors_file import Entry, SafetensorsFile
from aerogel.errors import CheckpointError, MissingTensorsError, UnsupportedModelError

SINGLE = "model.safetensors"
#: What the metadata of a packed model's file say.
PACKED_FORMAT = "aerogel"
INDEX = "model.safetensors.index.json"


class TensorFiles:
    """All tensors of a folder, or of `lone`, one file of it, by their stored names.

    Of tensors that share memory safetensors' `save_model` stores one, and says in the metadata which names it stands for:
    here it has all of them.

    Raises:
        CheckpointError: there are no weights, a file is broken, or shards and their index do not fit.
        UnsupportedModelError: the folder holds an adapter.
    """

    def __init__(self, folder: Path, lone: Path | None = None, verify: bool = True) -> None:
        if lone is None and not (folder / SINGLE).exists() and (folder / INDEX).exists():
            self._files, self._file_of = _sharded(folder, verify)
        else:
            file = SafetensorsFile(lone or weight_file(folder), verify)
            self._files = {file.path.name: file}
            self._file_of = dict.fromkeys(file.entries, file.path.name)
        self._stored = {
            name: stored
            for file in self._files.values()
            for name, stored in file.metadata.items()
            if stored in file.entries and name not in self._file_of
        }

    @property
    def packed(self) -> bool:
        """Whether a file says that it is a packed model's."""
        return any(file.metadata.get("format") == PACKED_FORMAT for file in self._files.values())

    def __iter__(self) -> Iterator[str]:
        return iter([*self._file_of, *self._stored])

    def __contains__(self, name: object) -> bool:
        return name in self._file_of or name in self._stored

    def entry(self, name: str) -> Entry:
        """The tensor's type and shape."""
        return self._file(name).entries[self._own(name)]

    def where(self, name: str) -> str:
        """The tensor's place, for messages."""
        return f"{self._file(name).path}: {name}"

    def raw(self, name: str) -> NDArray[Any]:
        """See `SafetensorsFile.raw`."""
        return self._file(name).raw(self._own(name))

    def float32(self, name: str) -> NDArray[np.float32]:
        """See `SafetensorsFile.float32`."""
        return self._file(name).float32(self._own(name))

    def _file(self, name: str) -> SafetensorsFile:
        return self._files[self._file_of[self._own(name)]]

    def _own(self, name: str) -> str:
        """The name under which the tensor is stored."""
        return self._stored.get(name, name)


def _sharded(folder: Path, verify: bool) -> tuple[dict[str, SafetensorsFile], dict[str, str]]:
    """The shards by their names, and the shard of every tensor."""
    path = folder / INDEX
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
    files = {name: SafetensorsFile(folder / name, verify) for name in shards}
    lost = [f"{name} (in {file})" for name, file in index.items() if name not in files[file].entries]
    if lost:
        raise MissingTensorsError(path, lost)
    return files, index


def weight_file(folder: Path) -> Path:
    """The folder's one safetensors file, or a CheckpointError that says what was found instead."""
    if (folder / SINGLE).exists():
        return folder / SINGLE
    found = sorted(folder.glob("*.safetensors"))
    if (folder / "adapter_config.json").exists():
        raise UnsupportedModelError(f"{folder}: this is an adapter, not a model: merge it into its base model first")
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(file.name for file in found)
        raise CheckpointError(f"{folder}: expected {SINGLE} or {INDEX}, found {names}")
    for pattern in ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt"):
        for old in sorted(folder.glob(pattern)):
            raise CheckpointError(
                f"{folder}: the weights are in PyTorch's pickle format ({old.name}), which can run code when read. "
                "Convert them once: transformers.AutoModel.from_pretrained(folder).save_pretrained(new_folder, "
                "safe_serialization=True)"
            )
    raise CheckpointError(f"{folder}: expected {SINGLE}, {INDEX} or a .gguf file, found no weights")

"""The tensors of a model in safetensors: one file, or the shards that model.safetensors.index.json lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
        if (folder / "adapter_config.json").exists():
            # Transformers would put it on top of the weights beside it, or of its base model's.
            raise UnsupportedModelError(
                f"{folder / 'adapter_config.json'}: adapters are not applied: merge it into its base model first "
                "(peft: model.merge_and_unload().save_pretrained(new_folder))"
            )
        if lone is None and not (folder / SINGLE).exists() and (folder / INDEX).exists():
            files, file_of = _sharded(folder, verify)
        else:
            file = SafetensorsFile(lone or weight_file(folder), verify)
            files, file_of = {file.path.name: file}, dict.fromkeys(file.entries, file.path.name)
        self._files = files
        #: name -> the file, and the name that it has there
        self._places = {name: (files[file], name) for name, file in file_of.items()}
        for file in files.values():
            for name, stored in file.metadata.items():
                if stored in file.entries:
                    self._places.setdefault(name, (file, stored))

    def add(self, names: Mapping[str, tuple[Path, str]]) -> None:
        """Adds tensors of other folders: name here -> the folder, and the name that it has there."""
        files = {folder: SafetensorsFile(weight_file(folder)) for folder, _ in names.values()}
        absent = [name for name, (folder, stored) in names.items() if stored not in files[folder].entries]
        if absent:
            raise MissingTensorsError(" and ".join(map(str, files)), [names[name][1] for name in absent])
        expected = {(folder, stored) for folder, stored in names.values()}
        unknown = [
            f"{f.path}: {name}" for folder, f in files.items() for name in f.entries if (folder, name) not in expected
        ]
        if unknown:
            raise UnsupportedModelError(f"{len(unknown)} tensors would be ignored: {', '.join(unknown)}")
        self._places.update({name: (files[folder], stored) for name, (folder, stored) in names.items()})

    @property
    def packed(self) -> bool:
        """Whether a file says that it is a packed model's."""
        return any(file.metadata.get("format") == PACKED_FORMAT for file in self._files.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def entry(self, name: str) -> Entry:
        """The tensor's type and shape."""
        file, stored = self._places[name]
        return file.entries[stored]

    def where(self, name: str) -> str:
        """The tensor's place, for messages."""
        file, stored = self._places[name]
        return f"{file.path}: {stored}"

    def checked(self, name: str) -> bool:
        """Whether the tensor is held against a checksum, which is that of the whole."""
        file, stored = self._places[name]
        return file.checked(stored)

    def raw(self, name: str, rows: slice | None = None) -> NDArray[Any]:
        """See `SafetensorsFile.raw`."""
        file, stored = self._places[name]
        return file.raw(stored, rows)

    def float32(self, name: str, rows: slice | None = None) -> NDArray[np.float32]:
        """See `SafetensorsFile.float32`."""
        file, stored = self._places[name]
        return file.float32(stored, rows)


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

"""Snapshots of a run: written whole or not at all, and refused by a run that asks for something else."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import torch

from aerogel._util.files import writing
from aerogel.errors import CheckpointError, RecipeError

_VERSION = 2


def write(path: Path, recipe: dict[str, Any], state: dict[str, Any]) -> None:
    """Writes the state of a run; an older snapshot is replaced in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as file:
        torch.save({"version": _VERSION, "recipe": json.dumps(recipe, sort_keys=True), "state": state}, file)


def read(path: Path, recipe: dict[str, Any]) -> dict[str, Any]:
    """The state that `write` was given.

    Raises:
        CheckpointError: there is none, or it is broken.
        RecipeError: it is from a run with another recipe.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # a snapshot is one, with checksums that torch.load does not look at
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path}: snapshot: damaged: the checksum of {damaged} is another one")
        content = torch.load(path, map_location="cpu", weights_only=True)
        version, theirs = content["version"], json.loads(content["recipe"])
        state: dict[str, Any] = content["state"]
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no snapshot to resume from") from error
    except CheckpointError:
        raise
    except Exception as error:  # torch.load raises whatever pickle and zip do
        raise CheckpointError(f"{path}: expected the snapshot of a training run: {error}") from error
    if version != _VERSION:
        raise CheckpointError(f"{path}: snapshot: expected version {_VERSION}, got {version}")
    ours = json.loads(json.dumps(recipe))
    different = [
        f"{key}: {theirs.get(key)!r} there, {ours.get(key)!r} here"
        for key in sorted({*theirs, *ours})
        if theirs.get(key) != ours.get(key)
    ]
    if different:
        raise RecipeError(f"{path}: is of another run: {'; '.join(different)}")
    return state

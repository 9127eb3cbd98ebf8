"""Snapshots of a run: written whole or not at all, and refused by a run that asks for something else."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from aerogel.errors import CheckpointError, RecipeError

_VERSION = 1


def write(path: Path, recipe: dict[str, Any], state: dict[str, Any]) -> None:
    """Writes the state of a run; an older snapshot is replaced in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"version": _VERSION, "recipe": json.dumps(recipe, sort_keys=True), "state": state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def read(path: Path, recipe: dict[str, Any]) -> dict[str, Any]:
    """The state that `write` was given.

    Raises:
        CheckpointError: there is none, or it is broken.
        RecipeError: it is from a run with another recipe.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        version, theirs = content["version"], json.loads(content["recipe"])
        state: dict[str, Any] = content["state"]
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no snapshot to resume from") from error
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

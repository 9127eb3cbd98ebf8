"""Single files that are written: beside their place, and put there once they are complete."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from aerogel._util.partial import partial_file, sweep, sync_names
from aerogel.errors import AerogelError

#: A folder with one of these is a model's, and no place for other files.
_OF_MODELS = ("config.json", "modules.json", "model.safetensors", "model.safetensors.index.json")


def check_file(file: Path, overwrite: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Raises AerogelError, before the work, if `file` cannot be written, or stands already and `overwrite` was not said.

    Args:
        file: the place.
        overwrite: whether what stands there may be replaced, unless it is a part of a model or an input.
        inputs: what is read.
    """
    try:
        os.fspath(file).encode()
    except UnicodeEncodeError:
        raise AerogelError(f"{os.fspath(file)!a}: expected the name of a file in UTF-8") from None
    try:
        status = os.stat(file)
    except FileNotFoundError:
        status = None
    except (OSError, ValueError) as error:
        raise AerogelError(f"{file}: cannot be written: {error}") from error
    if status is None:
        if not file.absolute().parent.is_dir():
            raise AerogelError(f"{file}: there is no folder {file.absolute().parent}")
    elif stat.S_ISDIR(status.st_mode):
        raise AerogelError(f"{file}: is a folder, not a file")
    elif stat.S_ISREG(status.st_mode):
        if any((file.absolute().parent / name).exists() for name in _OF_MODELS):
            raise AerogelError(f"{file}: is a file in a model's folder, so it is not overwritten: write another file")
        if any(one.exists() and one.samefile(file) for one in inputs):
            raise AerogelError(f"{file}: is what is read, so it is not overwritten: write another file")
        if not overwrite:
            raise AerogelError(f"{file}: exists: write another file, or replace it with --overwrite (overwrite=True)")


@contextlib.contextmanager
def writing(file: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `file` when the block ends well. A pipe or a device is written to as it is.

    Raises:
        AerogelError: it cannot be written.
    """
    place = Path(os.path.realpath(file))  # a link stays one
    try:
        mode = place.stat().st_mode if place.exists() else None
        if mode is not None and not stat.S_ISREG(mode):
            with place.open("wb") as out:
                yield out
            return
        sweep(place)
        with partial_file(place) as (path, handle):
            with open(handle, "wb", closefd=False) as out:
                yield out
            if mode is not None:
                os.fchmod(handle, stat.S_IMODE(mode))
            os.fsync(handle)
            os.replace(path, place)
        sync_names(place.parent)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise AerogelError(f"{file}: cannot be written: {error}") from error


def write_text(file: Path, text: str) -> None:
    """Writes a text as UTF-8, as `writing` does."""
    with writing(file) as out:
        out.write(text.encode())


def write_json(file: Path, values: Any) -> None:
    """Writes plain values as JSON, as `writing` does."""
    write_text(file, json.dumps(values, indent=2) + "\n")

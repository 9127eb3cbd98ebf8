"""Where a model may be written: the one rule of everything that writes one.

A folder is replaced only if aerogel wrote it and everything in it, nothing that is read lies in it, and the caller says so.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from aerogel._util.folders import replacing
from aerogel.checkpoint.card import CARD, is_signed
from aerogel.checkpoint.checksums import FILE as CHECKSUMS
from aerogel.checkpoint.folder import KEPT_FILES
from aerogel.checkpoint.packed.format import is_packed
from aerogel.checkpoint.safetensors_file import SafetensorsFile
from aerogel.checkpoint.sentence_writer import WRITTEN as MODULES_WRITTEN
from aerogel.errors import AerogelError, RecipeError

#: Beside the weights of a trained model: how it was trained. Its presence says that aerogel wrote the folder.
RECORD = "training.json"
#: What the metadata of an exported model's weights say.
WRITER = {"writer": "aerogel"}
#: Everything that a folder has from here; a wildcard stands for a part of one name.
_WRITTEN = (
    *("config.json", "model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *(RECORD, CHECKSUMS, *MODULES_WRITTEN, *KEPT_FILES),
)


def check_target(target: Path, overwrite: bool = False) -> None:
    """Raises RecipeError if a model must not be written to `target`.

    Args:
        target: nothing yet, an empty folder, or with `overwrite` a model that was written here.
        overwrite: whether it may be replaced.
    """
    try:
        str(target).encode()
    except UnicodeEncodeError:
        raise RecipeError(f"{str(target)!a}: expected the name of a folder in UTF-8") from None
    try:
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise RecipeError(f"{target}: exists and is not a folder")
        inside = sorted(target.rglob("*")) if target.is_dir() else []
    except (OSError, ValueError) as error:  # a name that is too long, or no name
        raise RecipeError(f"{target}: cannot be written: {error}") from error
    if not inside:
        return
    if not _is_own(target):
        raise RecipeError(f"{target}: is not empty and not a model that aerogel wrote, so it is not overwritten")
    others = [str(path) for path in (p.relative_to(target) for p in inside) if not _is_known(target, path)]
    if others:
        shown = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
        raise RecipeError(
            f"{target}: holds what aerogel did not write, so it is not overwritten: {shown}: move it, or name another folder"
        )
    if not overwrite:
        raise RecipeError(
            f"{target}: a model stands there: write to another folder, or replace it with --overwrite (overwrite=True)"
        )


def check_apart(source: Path, target: Path) -> None:
    """Raises RecipeError if `target`, which is going to be replaced, is the source or has it inside."""
    where, place = source.resolve(), target.resolve()
    if where == place or place in where.parents:
        what = "is" if where == place else "is around"
        raise RecipeError(f"{target}: {what} the model that is read: write to another folder")


@contextlib.contextmanager
def writing_model(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder that takes the place of `target` when the block ends well; see `check_target`."""
    check_target(target, overwrite)
    with replacing(target, functools.partial(check_target, overwrite=overwrite)) as folder:
        yield folder


def _is_own(folder: Path) -> bool:
    """A packed, a trained or an exported model."""
    if is_packed(folder) or (folder / RECORD).is_file():
        return True
    weights = next(iter(sorted(folder.glob("model*.safetensors"))), None)
    try:
        return weights is not None and WRITER.items() <= SafetensorsFile(weights).metadata.items()
    except AerogelError:
        return False


def _is_known(folder: Path, path: Path) -> bool:
    if path.as_posix() == CARD:
        return is_signed(folder / path)
    return any(
        len(path.parts) == pattern.count("/") + 1 and fnmatchcase(path.as_posix(), pattern) for pattern in _WRITTEN
    )

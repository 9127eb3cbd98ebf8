"""A folder that takes the place of another once it is complete, so that its name never stands for half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from aerogel._core import exchange_names
from aerogel._util.partial import OLD, locked, partial_folder, sweep, sync, sync_names
from aerogel.errors import RecipeError

#: How often another writer may come in between.
_ATTEMPTS = 100


@contextlib.contextmanager
def replacing(target: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends well and disappears when not.

    Where the system can exchange two names, that is one step. Elsewhere `target` is nothing for a moment; a process that is
    killed then leaves the old folder where `restore` finds it.

    Args:
        target: a folder, or nothing yet.
        check: refuses a target that must not be replaced; it is called in the end.

    Raises:
        RecipeError: the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target)
        place = partial_folder(target)
        folder = place.__enter__()
    except (OSError, ValueError) as error:
        raise RecipeError(f"{target}: cannot be written: {error}") from error
    with contextlib.ExitStack() as stack:
        stack.push(place)
        yield folder
        check(target)  # it may have been filled meanwhile
        try:
            sync(folder)
            _put(folder, target)
        except OSError as error:
            raise RecipeError(f"{target}: cannot be replaced: {error}") from error
        sync_names(target.parent)


def _put(folder: Path, target: Path) -> None:
    """Gives `folder` the name `target`; a folder that had it is removed, or has the other name then."""
    for _ in range(_ATTEMPTS):
        try:
            folder.rename(target)  # nothing is there, or an empty folder
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        try:
            if exchange_names(os.fspath(folder), os.fspath(target)) or _swap(folder, target):
                return
        except FileNotFoundError:  # another writer has moved it for a moment
            continue
    raise FileExistsError(errno.EEXIST, "other processes write there all the time")


def _swap(folder: Path, target: Path) -> bool:
    """Exchanges in two steps; False if another process filled the place in between."""
    old = folder.with_suffix(f".{OLD}")
    with locked(target):  # the lock goes with the folder: nobody takes the old one for a dead writer's
        target.rename(old)
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                old.rename(target)
                raise
            shutil.rmtree(old, ignore_errors=True)
            return False
        old.rename(folder)  # which is removed in the end
    return True

"""Names beside a file or folder that is being written, and what becomes of those that a killed writer left.

    .NAME.xxxxxxxx.partial    what is being written
    .NAME.xxxxxxxx.old        the folder that was there, for the moment in which the new one takes its place

Whoever uses one has it locked (flock); the lock ends with the process, however that ends. So one that can be locked is
nobody's: the next writer removes it, and `restore` brings an old folder back where there is none in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

PARTIAL, OLD = "partial", "old"
_ATTEMPTS = 100


@contextlib.contextmanager
def partial_folder(target: Path) -> Iterator[Path]:
    """A new, locked folder beside `target`; what has its name in the end is removed."""
    for path in _names(target):
        try:
            path.mkdir()
        except FileExistsError:
            continue
        with locked(path) as mine:
            if not mine:  # another writer took it for a dead one's, in the moment before it was locked
                continue
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)
        return
    raise FileExistsError(f"{target}: no free name beside it")


@contextlib.contextmanager
def partial_file(target: Path) -> Iterator[tuple[Path, int]]:
    """As `partial_folder`, a file that is open for writing: (its path, the file)."""
    for path in _names(target):
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        try:
            if not _lock(file, path):
                continue
            try:
                yield path, file
            finally:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
        finally:
            os.close(file)
        return
    raise FileExistsError(f"{target}: no free name beside it")


def _names(target: Path) -> Iterator[Path]:
    for _ in range(_ATTEMPTS):
        yield target.with_name(f".{target.name}.{os.urandom(4).hex()}.{PARTIAL}")


@contextlib.contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[bool]:
    """Locks a file or folder for the block; False if another has it, or it is gone. Where there are no locks: True."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield False
        return
    try:
        yield _lock(file, path, wait)
    finally:
        os.close(file)


def _lock(file: int, path: Path, wait: bool = False) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return _is(path, os.fstat(file))


def _is(path: Path, status: os.stat_result) -> bool:
    """Whether the name still stands for what was opened."""
    try:
        return os.path.samestat(os.lstat(path), status)
    except OSError:
        return False


def sweep(target: Path) -> None:
    """Removes what killed writers of `target` left beside it, and first brings its folder back where they had moved it."""
    restore(target)
    for path in _left(target, f"{PARTIAL}|{OLD}"):
        with contextlib.suppress(OSError), dead(path) as is_dead:
            if is_dead:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


@contextlib.contextmanager
def dead(path: Path) -> Iterator[bool]:
    """Whether nobody has `path` locked; nobody gets it during the block. Where there are no locks nobody is known dead."""
    with locked(path) as mine:
        yield mine and _has_locks(path)


def _has_locks(path: Path) -> bool:
    """Whether a lock keeps a second one out, as it does not where the file system has none."""
    with locked(path) as second:
        return not second


def restore(target: Path) -> None:
    """Gives a folder its name back where a writer was killed between taking it and giving it to the new one."""
    if os.path.lexists(target):
        return
    for path in sorted(_left(target, OLD), key=_changed, reverse=True):
        with contextlib.suppress(OSError), locked(path, wait=True):  # a living writer has it locked until it is done
            if path.is_dir() and not os.path.lexists(target):
                path.rename(target)
                return


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _left(target: Path, kinds: str) -> list[Path]:
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}\.({kinds})")
    try:
        names = os.listdir(target.parent)
    except OSError:
        return []
    return [target.with_name(name) for name in names if pattern.fullmatch(name)]


def sync(path: Path) -> None:
    """Waits until a file or folder, and all in it, is on the disk."""
    if stat.S_ISDIR(os.lstat(path).st_mode):
        for entry in os.scandir(path):
            if not entry.is_symlink():
                sync(Path(entry.path))
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_names(folder: Path) -> None:
    """Waits until what a folder's names stand for is on the disk; not every file system can, or lets every user."""
    with contextlib.suppress(OSError):
        file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)

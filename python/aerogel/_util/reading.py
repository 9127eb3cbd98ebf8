"""Reading files that a user named."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from aerogel._util.checks import path as as_path
from aerogel.errors import AerogelError, DataError


def read_bytes(name: str, value: Any, error: type[AerogelError] = DataError) -> bytes:
    """All of an ordinary file.

    Raises:
        error: it is not there, cannot be read, or is no ordinary file: one would wait for ever at a pipe.
    """
    path = as_path(name, value, error)
    check_ordinary(path, error)
    try:
        return path.read_bytes()
    except OSError as cause:
        raise error(f"{path}: cannot be read: {cause.strerror or cause}") from cause


def check_ordinary(path: Path, error: type[AerogelError]) -> None:
    """Raises `error` unless `path` is an ordinary file."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as cause:
        raise error(f"{path}: cannot be read: {getattr(cause, 'strerror', None) or cause}") from cause
    if not stat.S_ISREG(mode):
        raise error(f"{path}: cannot be read: expected a file, got {_kind(mode)}")


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "a socket"

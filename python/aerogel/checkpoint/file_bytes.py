"""The bytes of one file, read part by part into memory of the reader's own.

Not mapped: a mapped file that is cut short meanwhile ends the process (SIGBUS), and one that is written over changes what
was read from it. Here the first is an error, and what was read stays as it was.
"""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerogel._core import read_at
from aerogel.errors import CheckpointError

#: Buffers of at least so many bytes are pages of their own, which the system has back as soon as they are dropped; the
#: allocator would keep some of them.
_PAGES = 1 << 20
_HUGE_PAGES = 4 << 20


class FileBytes:
    """An open file. It may be replaced or removed meanwhile: what was opened is what is read.

    Raises:
        CheckpointError: it cannot be opened, is empty, or is not an ordinary file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1
        try:
            # without O_NONBLOCK a pipe that nobody writes to would be waited for
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(self._file)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path}: cannot be read: it is not an ordinary file")
        if status.st_size == 0:
            raise CheckpointError(f"{path}: the file is empty")
        self._size = status.st_size

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def __len__(self) -> int:
        """Bytes of the file when it was opened."""
        return self._size

    def read(self, begin: int, count: int) -> NDArray[np.uint8]:
        """A new uint8 [count], the bytes from `begin` on.

        Raises:
            CheckpointError: the file is shorter by now, or cannot be read.
        """
        return self._read(begin, count, None)[0]

    def read_checked(self, begin: int, count: int, crc: int) -> tuple[NDArray[np.uint8], int]:
        """As `read`, and the CRC-32C `crc` carried on over the bytes."""
        out, crc_after = self._read(begin, count, crc)
        assert crc_after is not None
        return out, crc_after

    def _read(self, begin: int, count: int, crc: int | None) -> tuple[NDArray[np.uint8], int | None]:
        out = _buffer(count)
        try:
            found, crc = read_at(self._file, begin, out, crc)
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read: {error}") from error
        if found < count:
            raise CheckpointError(
                f"{self.path}: truncated while it was read: expected {count} bytes at {begin}, got {found}"
            )
        return out, crc


def _buffer(count: int) -> NDArray[np.uint8]:
    if count < _PAGES:
        return np.empty(count, np.uint8)
    pages = mmap.mmap(-1, count, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if count >= _HUGE_PAGES and hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            pages.madvise(mmap.MADV_HUGEPAGE)
        except OSError:  # a kernel without them
            pass
    array: NDArray[Any] = np.frombuffer(pages, np.uint8)
    return array

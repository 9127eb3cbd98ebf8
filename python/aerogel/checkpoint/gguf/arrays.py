"""Arrays of a GGUF file's metadata as the file has them: a vocabulary in Python's lists takes several times the memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, overload

_LENGTH = struct.Struct("<Q")


class FileArray(Sequence[Any]):
    """Strings, or numbers of one kind; read as often as they are asked for.

    Args:
        data: its bytes in the file, complete.
        count: elements.
        kind: of the numbers; None: strings, UTF-8, each behind its length.
    """

    def __init__(self, data: bytes, count: int, kind: struct.Struct | None) -> None:
        self._data = data
        self._count = count
        self._kind = kind

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        if self._kind is not None:
            yield from (value for (value,) in self._kind.iter_unpack(self._data))
            return
        at, data, length = 0, self._data, _LENGTH.unpack_from
        for _ in range(self._count):
            begin = at + 8
            at = begin + length(data, at)[0]
            yield data[begin:at].decode("utf-8")

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return list(self)[index]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return next(islice(self, index % self._count, None))

    def __repr__(self) -> str:
        return repr(list(islice(self, 20)))

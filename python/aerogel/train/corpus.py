"""Texts from wherever they come, gone through once: a corpus may be larger than memory, its tokens end up in a file then."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from aerogel._util.checks import shown, text
from aerogel._util.checks import texts as check_texts
from aerogel.errors import DataError

#: Texts that are remembered of a corpus which is no list, to fit the pruning to.
SAMPLE = 20_000
#: Tokens that are kept in memory: 256 MB.
IN_MEMORY = 64 << 20
#: Texts that are tokenized at once.
CHUNK = 4096


class Corpus:
    """Texts that are gone through once.

    Args:
        texts: a list of strings; or anything that can be iterated over and gives strings, or mappings with the text in a
            column: a `datasets.Dataset`, streaming or not, a generator.
        column: the name of that column.
        seed: of what is remembered.

    Raises:
        DataError: here or on the way: it is something else.
    """

    def __init__(self, texts: Iterable[Any], column: str = "text", seed: int = 0) -> None:
        self._column = text("column", column, DataError)
        if isinstance(texts, (str, bytes, Mapping)) or not isinstance(texts, Iterable):
            raise DataError(f"texts: expected a list of strings, got {shown(texts)}")
        strings = isinstance(texts, (list, tuple)) and not (texts and isinstance(texts[0], Mapping))
        self._texts: Iterable[Any] = check_texts("texts", texts) if strings else texts
        self._all = strings
        self._some: list[str] = []
        self._random = random.Random(seed)

    @property
    def sample(self) -> Sequence[str]:
        """The list that was given; of another corpus what is remembered, drawn alike from all that was read."""
        return list(self._texts) if self._all else self._some

    def __iter__(self) -> Iterator[str]:
        try:
            for number, item in enumerate(self._texts):
                found = self._string(item, number)
                if not self._all:
                    self._remember(found, number)
                yield found
        except TypeError as error:  # an array without dimensions calls itself iterable
            raise DataError(f"texts: expected a list of strings, got {shown(self._texts)}") from error

    def chunks(self) -> Iterator[list[str]]:
        """The texts that are not empty, many at a time."""
        some = (found for found in self if found.strip())
        while chunk := list(islice(some, CHUNK)):
            yield chunk

    def _string(self, item: Any, number: int) -> str:
        found = item
        if isinstance(item, Mapping):
            if self._column not in item:
                raise DataError(
                    f"texts: {number}: expected the column {self._column!r}, got {shown(sorted(map(str, item)))}"
                )
            found = item[self._column]
        if not isinstance(found, str):
            raise DataError(f"texts: expected strings, got {type(found).__name__} at {number}")
        return found

    def _remember(self, found: str, number: int) -> None:
        """Reservoir sampling."""
        if len(self._some) < SAMPLE:
            self._some.append(found)
        elif (place := self._random.randrange(number + 1)) < SAMPLE:
            self._some[place] = found


class Tokens:
    """Token ids end to end: in memory, and once they are more than IN_MEMORY in a file without a name, which ends with the
    process.

    Args:
        folder: where such a file may be; the nearest folder above that there is, is taken.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = next((each for each in (folder, *folder.absolute().parents) if each.is_dir()), None)
        self._parts: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._file: IO[bytes] | None = None
        self._waiting = 0

    def add(self, rows: Sequence[Sequence[int]]) -> None:
        """Takes over some sequences."""
        self._lengths.append(np.array([len(row) for row in rows], np.int64))
        self._parts += [np.asarray(row, np.int32) for row in rows]
        self._waiting += int(self._lengths[-1].sum())
        if self._waiting > IN_MEMORY:
            self._write()

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All tokens, int32 [tokens], and the length of each sequence, int64 [count]."""
        lengths = np.concatenate(self._lengths) if self._lengths else np.zeros(0, np.int64)
        if self._file is None:
            return np.concatenate([np.zeros(0, np.int32), *self._parts]), lengths
        self._write()
        return np.memmap(self._file, np.int32, "r"), lengths

    def _write(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)
            self._file.writelines(part.tobytes() for part in self._parts)
            self._file.flush()
        except OSError as error:
            raise DataError(f"texts: {self._folder}: cannot keep their tokens there: {error}") from error
        self._parts, self._waiting = [], 0

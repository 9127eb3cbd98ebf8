"""Training data from files: a text a line, or a text, a tab and a label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from aerogel._util.checks import number
from aerogel._util.reading import read_bytes
from aerogel._util.text import decoded, not_utf8
from aerogel.calibrate import GENERAL
from aerogel.calibrate.general import with_general
from aerogel.errors import DataError

#: A longer line is a document: it is cut into its sentences.
LONGEST = 400
#: Bytes of files that are read whole, each text once.
WHOLE = 256 << 20
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def read_texts(files: Iterable[Path], sentences: bool = True, mix: float | None = None) -> list[str]:
    """The lines of all files, each text once, in order. With `sentences`, long lines are cut into sentences.

    Args:
        files: "general" is the mix that the package carries, see docs/calibration.md.
        mix: which part of all characters is of that mix, 0 to 1, as far as it has so many; half unless given, if `files`
            name it beside others.
    """
    files = list(files)
    own = [file for file in files if str(file) != GENERAL]
    if mix is None:
        mix = 0.0 if len(own) == len(files) else 0.5 if own else 1.0
    texts: dict[str, None] = {}
    for file in own:
        for line in _lines(file):
            parts = _parts(line) if sentences else [line]
            texts.update(dict.fromkeys(part.strip() for part in parts if part.strip()))
    return with_general(list(texts), number("mix", mix, 0, 1, DataError)) if mix else list(texts)


def open_texts(files: Iterable[Path], mix: float | None = None) -> Iterable[str]:
    """`read_texts`; but files of more than WHOLE bytes are read as they are needed, repeated texts too, and not mixed."""
    files = list(files)
    if sum(file.stat().st_size for file in files if file.is_file()) <= WHOLE:
        return read_texts(files, mix=mix)
    if mix is not None or any(str(file) == GENERAL for file in files):
        raise DataError(
            f"texts: files of more than {WHOLE >> 20} MB are not mixed with the general mix: mix them before"
        )
    return _lines_of(files)


def _lines_of(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        try:
            with open(file, encoding="utf-8-sig") as lines:
                for line in lines:
                    yield from (part.strip() for part in _parts(line) if part.strip())
        except UnicodeDecodeError as error:
            raise DataError(not_utf8(file, error)) from error
        except OSError as error:
            raise DataError(f"{file}: texts: {error}") from error


def _parts(line: str) -> list[str]:
    return _SENTENCE_END.split(line) if len(line) > LONGEST else [line]


def read_labelled(file: Path) -> tuple[list[str], list[int]]:
    """Lines of text<TAB>label, labels from 0."""
    texts, labels = [], []
    for place, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        text, tab, label = line.rstrip().rpartition("\t")
        if not tab or not text.strip() or not label.isdecimal():
            raise DataError(f"{file}: line {place}: expected text, a tab and a label from 0, got {line!r:.80}")
        texts.append(text.strip())
        labels.append(int(label))
    return texts, labels


def _lines(file: Path) -> list[str]:
    try:
        text = decoded(read_bytes("texts", file))
    except UnicodeDecodeError as error:
        raise DataError(not_utf8(file, error)) from error
    # Not splitlines(): a text may hold the other characters that it takes for line ends.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")

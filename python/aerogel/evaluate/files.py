"""Evaluation files: rows with their place, so that an error can say FILE:LINE, what was expected and what was got."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aerogel._util.reading import read_bytes
from aerogel._util.text import decoded, not_utf8
from aerogel.errors import DataError

#: A first row whose last field is one of these is a header. Any other word there is an error, never skipped silently.
HEADERS = frozenset(
    "score scores similarity similarity_score relatedness_score label labels class target category gold gold_label "
    "sentiment relevance".split()
)


def read_text(file: str | os.PathLike[str]) -> str:
    """A file's UTF-8 text.

    Raises:
        DataError: it cannot be read, is not UTF-8, or is empty.
    """
    data = read_bytes("file", file)
    try:
        text = decoded(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(not_utf8(os.fspath(file), error, line)) from error
    if not text.strip():
        raise DataError(f"{os.fspath(file)}: is empty")
    return text


def read_rows(
    file: str | os.PathLike[str], columns: Sequence[int], what: str, header: bool = True
) -> Iterator[tuple[str, list[str]]]:
    """Rows of a csv or tsv file as ("FILE:LINE", fields). Empty lines are skipped.

    Tabs separate the fields of a .tsv, and of any file but a .csv whose first line has one; quotes mean nothing there.
    Otherwise commas do, with fields in double quotes where they hold commas, quotes or line ends.

    Args:
        file: the file.
        columns: how many fields a row may have; every row as many as the first.
        what: a row for people, in errors.
        header: whether a first row may be a header (see HEADERS).
    """
    text = read_text(file)
    path = Path(file)
    tabs = path.suffix.lower() == ".tsv" or (path.suffix.lower() != ".csv" and "\t" in text.split("\n", 1)[0])
    if tabs:
        rows: Any = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    width = None
    while True:
        line = rows.line_num + 1
        where = f"{path}:{line}"
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{where}: expected {what}: {error}") from error
        if not fields:
            continue
        allowed = columns if width is None else [width]
        if len(fields) not in allowed:
            raise DataError(
                f"{where}: expected {what} ({' or '.join(map(str, allowed))} fields with "
                f"{'tabs' if tabs else 'commas'} between), got {len(fields)}"
            )
        first, width = width is None, len(fields)
        if first and header and fields[-1].strip().casefold() in HEADERS:
            continue
        yield where, fields


def read_jsonl(file: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """JSON objects, one a line, as ("FILE:LINE", object)."""
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{os.fspath(file)}:{number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: expected a JSON object: {error}") from error
        if not isinstance(value, dict):
            raise DataError(f"{where}: expected a JSON object, got {line.strip():.60}")
        yield where, value

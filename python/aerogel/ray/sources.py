"""The files of a dataset: which there are, where their rows lie, and reading some of them.

A file is cut where rows begin, so that a part can be read alone: Parquet says how many rows its groups have, a file of lines
is gone through once for the places of its lines. A line of a CSV file ends where as many quotes were opened as closed
(RFC 4180).
"""

from __future__ import annotations

import glob
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aerogel._util.text import not_utf8
from aerogel.errors import DataError

KINDS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "txt"}
#: The column of files that have no names for any.
TEXT = "text"
#: Rows from which the types of a JSON file's columns are taken.
LOOKED_AT = 1000
_CHUNK = 1 << 24
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Source:
    """A file of the input.

    Attributes:
        path: absolute.
        kind: "parquet", "csv", "jsonl" or "txt".
        size: bytes.
        modified: when it was changed last, nanoseconds since 1970.
        head: bytes before the first row: a byte order mark, or a CSV file's line of names.
        rows: how many it has.
    """

    path: str
    kind: str
    size: int
    modified: int
    head: int = 0
    rows: int = 0


def find(where: str) -> list[Source]:
    """The files of a dataset, by name: a file, all files of a folder that have a known ending, or a pattern such as
    "texts/*.jsonl". What begins with a dot or an underscore is none.

    Raises:
        DataError: there are none, or they are of several kinds.
    """
    if os.path.isdir(where):
        names = sorted(os.path.join(where, name) for name in os.listdir(where) if name[0] not in "._")
        names = [name for name in names if Path(name).suffix.lower() in KINDS]
    else:
        names = [where] if os.path.isfile(where) else sorted(name for name in glob.glob(where) if os.path.isfile(name))
    endings = ", ".join(KINDS)
    if not names:
        raise DataError(
            f"{where}: expected a file, a folder or a pattern of files with the endings {endings}, got none"
        )
    found = []
    for name in names:
        kind = KINDS.get(Path(name).suffix.lower())
        if kind is None:
            raise DataError(f"{name}: expected a file with one of the endings {endings}")
        status = os.stat(name)
        found.append(Source(os.path.abspath(name), kind, status.st_size, status.st_mtime_ns))
    kinds = sorted({source.kind for source in found})
    if len(kinds) > 1:
        raise DataError(f"{where}: expected files of one kind, got {' and '.join(kinds)}")
    return found


def starts_of_lines(path: str, every: int, csv: bool = False) -> tuple[list[int], int]:
    """Where every so-manyth row of a file of lines begins, in bytes, from the first on; and the number of rows.

    Args:
        path: the file; a byte order mark is no part of the first row.
        every: rows between two places.
        csv: the first line has names, and a line within quotes does not end.
    """
    starts: list[int] = []
    count, quotes, end = -1 if csv else 0, 0, 0
    with open(path, "rb") as file:
        if file.read(3) == _MARK:
            end = 3
        file.seek(end)
        base = last = end
        if not csv:
            starts.append(base)
        while chunk := file.read(_CHUNK):
            codes = np.frombuffer(chunk, np.uint8)
            ends = np.flatnonzero(codes == 10)
            if csv:
                marks = np.flatnonzero(codes == 34)
                ends = ends[((quotes + np.searchsorted(marks, ends)) & 1) == 0]
                quotes += len(marks)
            starts += (base + ends[every - 1 - count % every :: every] + 1).tolist()
            count += len(ends)
            if len(ends):
                last = base + int(ends[-1]) + 1
            base += len(chunk)
    if last < base:  # a last line without an end
        count += 1
    if count == 0 and csv and not starts:  # names without an end of line
        starts.append(base)
    if starts and starts[-1] >= base and count > 0:
        starts.pop()
    return starts, max(count, 0)


def rows_of_parquet(path: str) -> int:
    """The number of rows that a Parquet file says it has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return int(file.metadata.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: expected a Parquet file: {_line(error)}") from error


def schema_of(source: Source) -> Any:
    """The pyarrow.Schema that a file's rows are read with: its own; texts for CSV; of JSON what the first 1000 rows show."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if source.kind == "txt":
        return pa.schema([(TEXT, pa.string())])
    if source.kind == "parquet":
        return pq.read_schema(source.path).remove_metadata()
    if source.kind == "csv":
        with open(source.path, "rb") as file:
            return pa.schema([(name, pa.string()) for name in _csv_names(source, file.read(source.head))])
    with open(source.path, "rb") as file:
        file.seek(source.head)
        first = b"".join(line for line, _ in zip(file, range(LOOKED_AT)))
    try:
        found = pa.Table.from_pylist(list(_objects(source, first, 0))).schema
    except pa.ArrowException as error:
        raise DataError(f"{source.path}: expected rows with columns of one type each: {_line(error)}") from error
    return pa.schema([(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in found])


def read(source: Source, schema: Any, row: int, rows: int, begin: int, end: int) -> Any:
    """The rows from `row` on, as a pyarrow.Table of `schema`. Of JSON lines that are empty there is no row.

    Args:
        source: the file.
        schema: the columns that are wanted, with their types.
        row: the first one, counted in the file.
        rows: how many.
        begin: where they begin in a file of lines, in bytes.
        end: where they end.

    Raises:
        DataError: the file does not have such rows.
    """
    import pyarrow as pa

    if source.kind == "parquet":
        try:
            return _read_parquet(source, schema, row, rows)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DataError(f"{source.path}: rows {row} to {row + rows}: {_line(error)}") from error
    with open(source.path, "rb") as file:
        head = file.read(source.head) if source.kind == "csv" else b""
        file.seek(begin)
        data = file.read(end - begin)
    if source.kind == "txt":
        return pa.table([pa.array(list(_lines(source, data, row)), pa.string())], schema=schema)
    try:
        if source.kind == "jsonl":
            return pa.Table.from_pylist(list(_objects(source, data, row)), schema)
        found = _read_csv(source, head, data, schema)
    except pa.ArrowException as error:
        raise DataError(f"{source.path}: rows {row} to {row + rows}: {_line(error)}") from error
    if len(found) != rows:
        raise DataError(
            f"{source.path}: from row {row} on: expected {rows} rows, got {len(found)}: expected quotes as RFC 4180 has them"
        )
    return found


def _read_parquet(source: Source, schema: Any, row: int, rows: int) -> Any:
    import pyarrow.parquet as pq

    with pq.ParquetFile(source.path) as file:
        groups: list[int] = []
        first = before = 0
        for index in range(file.num_row_groups):
            count = file.metadata.row_group(index).num_rows
            if before + count > row and before < row + rows:
                if not groups:
                    first = before
                groups.append(index)
            before += count
        table = file.read_row_groups(groups, columns=schema.names, use_threads=False)
    return table.slice(row - first, rows).select(schema.names).cast(schema)


def _csv_names(source: Source, head: bytes) -> list[str]:
    import csv

    try:
        names = next(csv.reader(io.StringIO(head.removeprefix(_MARK).decode("utf-8"), newline="")), [])
    except UnicodeDecodeError as error:
        raise DataError(not_utf8(source.path, error, 1)) from error
    if len(set(names)) < len(names) or not all(names):
        raise DataError(f"{source.path}: expected a name for each column in its first line, got {names!r:.80}")
    return names


def _read_csv(source: Source, head: bytes, data: bytes, schema: Any) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    names = _csv_names(source, head)
    found = csv.read_csv(
        pa.BufferReader(data),
        read_options=csv.ReadOptions(column_names=names, use_threads=False),
        parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            column_types={name: pa.string() for name in names}, include_columns=schema.names, strings_can_be_null=False
        ),
    )
    return found.cast(schema)


def _lines(source: Source, data: bytes, row: int) -> Iterator[str]:
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n"), row + 1):
        try:
            yield line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(not_utf8(source.path, error, number)) from error


def _objects(source: Source, data: bytes, row: int) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(source, data, row), row + 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{source.path}:{number}: expected a JSON object: {error}") from error
        if not isinstance(value, dict):
            raise DataError(f"{source.path}:{number}: expected a JSON object, got {type(value).__name__}")
        yield value


def texts(source: Source, table: Any, column: str, row: int) -> list[str]:
    """A column of a table as texts.

    Raises:
        DataError: a row has none.
    """
    import pyarrow as pa

    values = table.column(column)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise DataError(f"{source.path}: column {column!r}: expected texts, got {values.type}")
    found: Sequence[Any] = values.to_pylist()
    if values.null_count:
        raise DataError(f"{source.path}: column {column!r}: expected a text, got none in row {row + found.index(None)}")
    return list(found)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

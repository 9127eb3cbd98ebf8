"""How a dataset is cut into parts, and what a folder of parts says of itself.

A part's name follows from its place in the input alone, so it does not matter who writes it, when, or how often: it is
there once. `_aerogel.json`, the manifest, says what the folder's parts are made of; a run that is started again goes on only
if that is the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from aerogel._util.files import write_json
from aerogel.checkpoint.hub import download
from aerogel.errors import AerogelError, DataError
from aerogel.ray.sources import Source, rows_of_parquet, starts_of_lines

MANIFEST, SUCCESS = "_aerogel.json", "_SUCCESS"
VERSION = 1
#: Parts that a dataset is cut into where nobody says how many rows one has; and the least and the most rows then.
WANTED, LEAST, MOST = 64, 256, 10_240
#: Of larger files both ends count for `fingerprint`.
_WHOLE, _END = 1 << 24, 1 << 16


@dataclass(frozen=True)
class Part:
    """Some rows of a file, and the name of what is made of them.

    Attributes:
        name: "part-000012.parquet"; in the order of their names, the parts are the input.
        file: which of the sources.
        row: the first row, counted in its file.
        rows: how many; of JSON, lines.
        begin: where they begin in a file of lines, in bytes.
        end: where they end.
    """

    name: str
    file: int
    row: int
    rows: int
    begin: int
    end: int


@dataclass(frozen=True)
class Task:
    """What is made of the texts: all that decides what is in a part.

    Attributes:
        model: as it was named.
        fingerprint: of its files.
        column: the texts.
        output: the column of embeddings.
        keep: the columns of the input that stand beside them.
        precision: "float32", "float16", "binary" or "ubinary".
        prompt: stands before each text; None: as the model does it with documents.
        prompt_name: one of the model's own.
        truncate_dim: the numbers of an embedding that are kept.
        quant: quantize a float model while it is loaded.
    """

    model: str
    fingerprint: str
    column: str
    output: str
    keep: tuple[str, ...]
    precision: str = "float32"
    prompt: str | None = None
    prompt_name: str | None = None
    truncate_dim: int | None = None
    quant: str | None = None


@dataclass(frozen=True)
class Manifest:
    """All of a run that a restart has to know; `schema` is that of the columns that are read, as Arrow writes it, in hex."""

    task: Task
    sources: tuple[Source, ...]
    parts: tuple[Part, ...]
    part_rows: int
    schema: str

    @property
    def rows(self) -> int:
        """The rows of the input."""
        return sum(part.rows for part in self.parts)

    def missing(self, folder: Path) -> list[Part]:
        """The parts that are not there yet."""
        there = set(os.listdir(folder))
        return [part for part in self.parts if part.name not in there]

    def write(self, folder: Path) -> None:
        """Writes the manifest, in one step."""
        parts = [[p.file, p.row, p.rows, p.begin, p.end] for p in self.parts]
        said = {"task": asdict(self.task), "sources": [asdict(s) for s in self.sources], "part_rows": self.part_rows}
        write_json(folder / MANIFEST, {"version": VERSION, **said, "schema": self.schema, "parts": parts})


def read_manifest(folder: Path) -> Manifest | None:
    """What `Manifest.write` wrote; None where there is none.

    Raises:
        DataError: it is not one, or of another version.
    """
    file = folder / MANIFEST
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        if said["version"] != VERSION:
            raise DataError(f"{file}: expected version {VERSION}, got {said['version']!r}")
        task = Task(**{**said["task"], "keep": tuple(said["task"]["keep"])})
        sources = tuple(Source(**source) for source in said["sources"])
        parts = tuple(Part(part_name(i), *numbers) for i, numbers in enumerate(said["parts"]))
        return Manifest(task, sources, parts, said["part_rows"], said["schema"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: expected the manifest of a run: {error}") from error


def part_name(number: int) -> str:
    """The name of a part; they sort in their order."""
    return f"part-{number:08d}.parquet"


def is_part(name: str) -> bool:
    """Whether it is the name of a part."""
    return name.startswith("part-") and name.endswith(".parquet") and name[5:-8].isdigit()


def cut(sources: Sequence[Source], part_rows: int | None) -> tuple[tuple[Source, ...], tuple[Part, ...], int]:
    """Cuts files into parts of so many rows; a part has rows of one file.

    Args:
        sources: the files.
        part_rows: rows of a part; unless given so many that there are some 64 parts, from 256 to 10,240.

    Returns:
        The files with what was learned of their rows, the parts, and the rows of a part.
    """
    every = part_rows or LEAST
    known: list[Source] = []
    places: list[list[int]] = []
    for source in sources:
        if source.kind == "parquet":
            known.append(replace(source, rows=rows_of_parquet(source.path)))
            places.append([])
        else:
            starts, rows = starts_of_lines(source.path, every, source.kind == "csv")
            known.append(replace(source, rows=rows, head=starts[0] if starts else source.size))
            places.append(starts)
    if part_rows is None:
        grains = -(-sum(source.rows for source in known) // (WANTED * LEAST))
        part_rows = LEAST * max(1, min(grains, MOST // LEAST))
    parts: list[Part] = []
    step = part_rows // every
    for index, (source, starts) in enumerate(zip(known, places)):
        ends = [*starts[step::step], source.size]
        for number, row in enumerate(range(0, source.rows, part_rows)):
            begin, end = (starts[number * step], ends[number]) if starts else (0, 0)
            rows = min(part_rows, source.rows - row)
            parts.append(Part(part_name(len(parts)), index, row, rows, begin, end))
    return tuple(known), tuple(parts), part_rows


def differences(old: Manifest, task: Task, sources: Iterable[Source], part_rows: int | None) -> list[str]:
    """What is not as in the run that wrote `old`, in words."""
    found = []
    for field in fields(Task):
        before, now = getattr(old.task, field.name), getattr(task, field.name)
        if before != now and field.name != "model":  # which may lie elsewhere: its fingerprint counts
            found.append(f"{field.name}: {before!r:.60} then, {now!r:.60} now")
    then = {source.path: (source.size, source.modified) for source in old.sources}
    now_there = {source.path: (source.size, source.modified) for source in sources}
    for path in sorted(then.keys() | now_there.keys()):
        if then.get(path) != now_there.get(path):
            what = (
                "changed since" if path in then and path in now_there else "is new" if path in now_there else "is gone"
            )
            found.append(f"{path} {what}")
    if part_rows is not None and part_rows != old.part_rows:
        found.append(f"part_rows: {old.part_rows} then, {part_rows} now")
    return found


def fingerprint(model: str) -> str:
    """A number for a model's files, the same on every machine that has the same: names, sizes and contents (of files of more
    than 16 MB the first and last 64 KB).

    Raises:
        CheckpointError: there is no such model.
    """
    place = Path(model).expanduser()
    place = place if place.exists() else download(model)
    digest = hashlib.sha256()
    for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if not file.is_file() or any(part.startswith(".") for part in file.relative_to(place.parent).parts[1:]):
            continue
        size = file.stat().st_size
        name = file.relative_to(place).as_posix() if file != place else ""
        digest.update(f"{name}\0{size}\0".encode())
        with file.open("rb") as data:
            if size <= _WHOLE:
                digest.update(data.read())
            else:
                digest.update(data.read(_END))
                data.seek(-_END, os.SEEK_END)
                digest.update(data.read())
    return digest.hexdigest()[:32]


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """A folder for parts: new, empty, or that of a run; with `overwrite`, what a run left there is removed.

    Raises:
        AerogelError: something else is in it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
        foreign = [name for name in names if name not in (MANIFEST, SUCCESS) and not is_part(name)]
        if foreign or (names and MANIFEST not in names):
            raise AerogelError(
                f"{folder}: expected a new folder or that of a run, got one with {sorted(foreign or names)[0]}"
            )
        if overwrite:
            # The manifest last: a folder of parts without one would be nobody's.
            for name in sorted(names, key=lambda name: name == MANIFEST):
                (folder / name).unlink()
    except OSError as error:
        raise AerogelError(f"{folder}: cannot be written: {error}") from error

"""Embedding all texts of a dataset, on one machine or many."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from aerogel._util.checks import function, one_of, path, path_like, text, texts, whole_number
from aerogel._util.files import write_text
from aerogel._util.partial import locked
from aerogel._util.progress import Progress
from aerogel.errors import AerogelError, DataError
from aerogel.ray import parts, pool, sources
from aerogel.ray.ledger import Ledger
from aerogel.ray.part_writer import PRECISIONS


class Embedded(NamedTuple):
    """What `embed_dataset` did.

    Attributes:
        rows: of the input.
        parts: of the output.
        parts_before: those of them that an earlier run had written.
        seconds: that this run took, Ray's start included.
        busy_seconds: of all workers together, loading not counted.
    """

    rows: int
    parts: int
    parts_before: int
    seconds: float
    busy_seconds: float


def embed_dataset(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: str | os.PathLike[str],
    *,
    column: str = "text",
    output: str = "embedding",
    keep: Sequence[str] | None = None,
    precision: str = "float32",
    prompt: str | None = None,
    prompt_name: str | None = None,
    truncate_dim: int | None = None,
    quant: str | None = None,
    part_rows: int | None = None,
    threads: int = 1,
    workers: int | None = None,
    retries: int = 3,
    address: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Embedded:
    """Embeds the texts of files into a folder of Parquet files, with Ray; a run that was interrupted goes on where it ended.

    Part i of the output has a name that follows from its place in the input, and is put there in one step: each row of the
    input is in it exactly once, in the input's order, however often workers, machines or the whole run were killed. The
    folder, the input and the model must have the same paths on all machines. When all is done there is a file `_SUCCESS`.

    Args:
        source: a file, a folder or a pattern of .parquet, .csv, .jsonl or .txt files (one text a line, column "text").
        out: the folder to write; new, or that of a run with the same arguments.
        model: what `aerogel.load` takes.
        column: the texts.
        output: the name of the column of embeddings.
        keep: the other columns of the output; all of the input's unless given.
        precision: "float32", "float16", "binary" or "ubinary" (a bit a number).
        prompt: stands before each text; unless given the model's own for documents, if it has one.
        prompt_name: one of the model's own.
        truncate_dim: keep so many numbers of each embedding.
        quant: quantize a float model while it is loaded, as `aerogel.load` does.
        part_rows: rows of a part: what is lost when a worker is. Unless given so many that there are some 64 parts, from 256
            to 10,240.
        threads: of each worker, which asks Ray for as many CPUs.
        workers: how many; unless given as many as there are CPUs for. More than that wait until the cluster has grown.
        retries: how often a part is tried again when the worker that had it is lost.
        address: of a Ray cluster, "auto" for the one of this machine; unless given, Ray runs on this machine alone. A
            process that is connected already stays so.
        overwrite: begin anew where the folder has parts of another run.
        progress: called as progress(rows done, rows in all, name of the part).

    Raises:
        DataError: the files cannot be read, or have no such column.
        AerogelError: the folder has something else, the model cannot be loaded, Ray is missing, or workers are lost again
            and again.
    """
    begun = time.monotonic()
    function("progress", progress)
    count = whole_number("threads", threads, 1)
    wanted = None if workers is None else whole_number("workers", workers, 1)
    again = whole_number("retries", retries, 0)
    size = None if part_rows is None else whole_number("part_rows", part_rows, 1, 1 << 31)
    folder = path("out", out).absolute()
    task = _task(model, column, output, keep, precision, prompt, prompt_name, truncate_dim, quant)
    manifest, schema = _manifest(path_like("source", source, DataError), folder, task, size, overwrite)
    with _alone(folder):
        missing = manifest.missing(folder)
        before, busy = len(manifest.parts) - len(missing), 0.0
        rows = manifest.rows - sum(part.rows for part in missing)

        def done(part: parts.Part, seconds: float) -> None:
            nonlocal rows, busy
            rows, busy = rows + part.rows, busy + seconds
            if progress:
                progress(rows, manifest.rows, part.name)

        if missing:
            if progress:
                progress(rows, manifest.rows, "")
            with pool.connected(address, count, wanted) as room:
                ledger = Ledger(missing, again)
                pool.run(ledger, manifest.task, schema, manifest.sources, folder, count, room, done)
        lost = manifest.missing(folder)
        if lost:
            raise AerogelError(
                f"{folder}: {lost[0].name} was written and is not there: is the folder the same on all machines?"
            )
        write_text(folder / parts.SUCCESS, "")
    return Embedded(manifest.rows, len(manifest.parts), before, time.monotonic() - begun, busy)


def _task(
    model: Any, column: Any, output: Any, keep: Any, precision: Any, prompt: Any, name: Any, dimensions: Any, quant: Any
) -> parts.Task:
    """The arguments, refused before any work if they are none."""
    place = path_like("model", model)
    return parts.Task(
        model=os.path.abspath(os.path.expanduser(place)) if os.path.exists(os.path.expanduser(place)) else place,
        fingerprint=parts.fingerprint(place),
        column=text("column", column, DataError),
        output=text("output", output, DataError),
        keep=() if keep is None else tuple(texts("keep", keep)),
        precision=one_of("precision", precision, PRECISIONS, DataError),
        prompt=None if prompt is None else text("prompt", prompt, DataError),
        prompt_name=None if name is None else text("prompt_name", name, DataError),
        truncate_dim=None if dimensions is None else whole_number("truncate_dim", dimensions, 1, error=DataError),
        quant=None if quant is None else text("quant", quant),
    )


def _manifest(
    source: str, folder: Path, task: parts.Task, part_rows: int | None, overwrite: bool
) -> tuple[parts.Manifest, Any]:
    """The plan of the run, new or that of an earlier one with the same arguments; and the columns that are read."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise AerogelError(f"datasets need PyArrow: pip install aerogel[ray] ({error})") from error
    found = sources.find(source)
    schema, keep = _columns(sources.schema_of(_with_head(found[0])), task, found[0].path)
    task = replace(task, keep=keep)
    parts.prepare_folder(folder, overwrite)
    old = parts.read_manifest(folder)
    if old is not None:
        changed = parts.differences(old, task, found, part_rows)
        if changed:
            raise AerogelError(
                f"{folder}: has parts of another run: {'; '.join(changed[:3])}: write another folder, or begin anew with "
                "--overwrite (overwrite=True)"
            )
        return replace(old, task=task), pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(old.schema)))
    known, pieces, size = parts.cut(found, part_rows)
    manifest = parts.Manifest(task, known, pieces, size, schema.serialize().to_pybytes().hex())
    manifest.write(folder)
    return manifest, schema


def _with_head(source: sources.Source) -> sources.Source:
    """The first file with what its columns are read from."""
    if source.kind == "parquet":
        return source
    starts, _ = sources.starts_of_lines(source.path, 1 << 62, source.kind == "csv")
    return replace(source, head=starts[0] if starts else source.size)


def _columns(schema: Any, task: parts.Task, where: str) -> tuple[Any, tuple[str, ...]]:
    """The columns to read and those to keep.

    Raises:
        DataError: the input lacks one, or has one called as the output.
    """
    import pyarrow as pa

    keep = task.keep or tuple(name for name in schema.names if name != task.output)
    for name in (task.column, *keep):
        if schema.names.count(name) != 1:
            raise DataError(f"{where}: expected a column {name!r}, got {', '.join(schema.names):.200}")
    if task.output in schema.names and (not task.keep or task.output in keep):
        raise DataError(f"{where}: has a column {task.output!r} already: give the embeddings another name (output)")
    names = list(dict.fromkeys((*keep, task.column)))
    return pa.schema([schema.field(name) for name in names]), keep


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps a second run out of the folder, where its file system has locks; without them both write the same parts."""
    with locked(folder / parts.MANIFEST) as mine:
        if not mine:
            raise AerogelError(f"{folder}: another run writes here")
        yield

"""What the commands print with and write to: the consoles, progress bars, files, and the texts that they read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from aerogel._util import files
from aerogel.errors import DataError

if TYPE_CHECKING:
    from aerogel._util.progress import Progress as Callback

#: Messages go to stderr: stdout is for results.
console = Console(stderr=True, highlight=False)


def results() -> Console:
    """For tables on stdout; where that is no terminal they are not squeezed into 80 columns."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=160)


def say(line: str) -> None:
    """A message, printed as it is."""
    console.print(line, markup=False, soft_wrap=True)


def check_outputs(*wanted: Path | None, overwrite: bool = False) -> None:
    """Files to be written must have a folder, and must not be there yet: said before the work, not after it."""
    for file in wanted:
        if file is not None:
            files.check_file(file, overwrite)


def write_json(file: Path | None, values: Any) -> None:
    """Writes plain values, if a file was asked for."""
    if file is not None:
        files.write_json(file, values)


def read_lines(file: str) -> list[str]:
    """The file's lines (- is standard input), UTF-8, without their ends."""
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: expected UTF-8 text: {error}") from error
    lines = text.replace("\r\n", "\n").split("\n")  # not splitlines, which also breaks at form feeds and the like
    return lines[:-1] if lines[-1] == "" else lines


@contextmanager
def progress_bar(title: str) -> Iterator[Callback]:
    """A bar that follows callbacks (done, total, name)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[at]}"),
    )
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        task = progress.add_task(escape(title), total=None, at="")

        def step(done: int, total: int, name: str) -> None:
            progress.update(task, completed=done, total=total, at="" if done == total else escape(name))

        yield step

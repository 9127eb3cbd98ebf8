"""What the commands print with and write to: the consoles, progress bars, files, and the texts that they read."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from aerogel._util import files
from aerogel._util.text import decoded, middle, not_utf8
from aerogel.errors import DataError

if TYPE_CHECKING:
    from rich.table import Column

    from aerogel._util.progress import Progress as Callback
    from aerogel.engine.model import Model

#: Columns of what is no terminal.
UNLIMITED = 10_000
#: Seconds between lines of progress where there is no terminal to draw a bar on.
EVERY = 5.0
#: Columns of a bar's title, and of a layer's name.
TITLE, NAME = 34, 30
#: Messages go to stderr: stdout is for results.
console = Console(stderr=True, highlight=False)
if not console.is_terminal:
    console = Console(stderr=True, highlight=False, width=UNLIMITED)


def results() -> Console:
    """For tables on stdout; where that is no terminal, nothing is cut or wrapped."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=UNLIMITED)


def names_column(head: str) -> Column:
    """The column of layers' names: whatever gives way in a narrow terminal, it does not."""
    from rich.table import Column

    return Column(head, no_wrap=True, min_width=18)


def say(line: str) -> None:
    """A message, printed as it is."""
    console.print(line, markup=False, soft_wrap=True)


def check_outputs(*wanted: Path | None, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()) -> None:
    """Files to be written must have a folder, must not be there yet, and with `overwrite` be none of the inputs and no part
    of a model: said before the work, not after it."""
    read = [Path(one) for one in inputs if one is not None]
    for file in wanted:
        if file is not None:
            files.check_file(file, overwrite, read)


def write_json(file: Path | None, values: Any) -> None:
    """Writes plain values, if a file was asked for."""
    if file is not None:
        files.write_json(file, values)


def stream_lines(file: str) -> Iterator[str]:
    """The lines of a file (- is standard input) as they come, UTF-8, without their ends and without a byte order mark."""
    with sys.stdin.buffer if file == "-" else Path(file).open("rb") as data:
        for number, line in enumerate(data, 1):
            try:
                text = decoded(line) if number == 1 else line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(not_utf8(file, error, number)) from error
            yield from text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def read_lines(file: str) -> list[str]:
    """The file's lines (- is standard input), UTF-8, without their ends."""
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        text = decoded(data)
    except UnicodeDecodeError as error:
        raise DataError(not_utf8(file, error)) from error
    lines = text.split("\n")  # not splitlines, which also breaks at form feeds and the like
    return lines[:-1] if lines[-1] == "" else lines


@contextmanager
def progress_bar(title: str, at_once: bool = True) -> Iterator[Callback]:
    """A bar that follows callbacks (done, total, name); off a terminal, a line every few seconds.

    Args:
        title: what is done; cut in the middle where it is long.
        at_once: show it from the beginning, not from the first callback on.
    """
    title = middle(title, TITLE)
    if not console.is_terminal:
        yield _lines(title)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[at]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
    )
    progress = Progress(*columns, console=console, expand=True)
    task = progress.add_task(escape(title), total=None, at="")
    if at_once:
        progress.start()

    def step(done: int, total: int, name: str) -> None:
        if not progress.live.is_started:
            progress.start()
        left = max(12, console.width - TITLE - 46)
        progress.update(task, completed=done, total=total, at="" if done == total else escape(middle(name, left)))

    try:
        yield step
    finally:
        if progress.live.is_started:
            progress.stop()


def _lines(title: str) -> Callback:
    """Progress as lines, seldom enough for a log."""
    said = time.monotonic()

    def step(done: int, total: int, name: str) -> None:
        nonlocal said
        if time.monotonic() - said >= EVERY and done < total:
            said = time.monotonic()
            say(f"{title}: {done} of {total}{f' ({name})' if name else ''}")

    return step


def loaded(folder: str, threads: int | None = None, **options: Any) -> Model:
    """`aerogel.load`, with a bar while kernels are measured."""
    from aerogel.engine.model import load

    with progress_bar("Measuring kernels, once", at_once=False) as progress:
        return load(folder, threads, progress=progress, **options)

"""What the commands share: the consoles, progress bars, the check of output files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from aerogel._util.progress import Progress as Callback
from aerogel.errors import AerogelError

#: For people: stdout is for results.
console = Console(stderr=True, highlight=False)


def results() -> Console:
    """For tables on stdout; where that is no terminal they are not squeezed into 80 columns."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=160)


def check_outputs(*files: Path | None) -> None:
    """Files to be written must have a folder: said before the work, not after it."""
    for file in files:
        if file is not None and not file.absolute().parent.is_dir():
            raise AerogelError(f"{file}: there is no folder {file.absolute().parent}")


@contextmanager
def progress_bar(title: str) -> Iterator[Callback]:
    """A bar that follows callbacks (done, total, name)."""
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

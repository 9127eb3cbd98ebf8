"""A bar on stderr while many texts are run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aerogel._util.progress import Progress


@contextmanager
def shown_progress(what: str, wanted: bool, progress: Progress | None) -> Iterator[Progress | None]:
    """What to report progress to: a bar if one is `wanted`, and `progress`, if there is one."""
    if not wanted:
        yield progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)

        def report(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total)
            if progress is not None:
                progress(done, total, name)

        yield report

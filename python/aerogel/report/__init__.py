"""Reports: a compression, its scores and a sweep as one HTML page, readable in light and dark, that needs no other file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel._util.checks import instance, items, shown
from aerogel._util.checks import path as as_path
from aerogel._util.files import check_file, write_text
from aerogel.errors import AerogelError
from aerogel.evaluate.task import Score
from aerogel.report.facts import facts_of

if TYPE_CHECKING:
    from aerogel.compression import CompressReport
    from aerogel.sweeps import Sweep

__all__ = ["page_in", "write_report"]


def write_report(
    report: CompressReport | Mapping[str, Any] | None,
    folder: str | os.PathLike[str],
    sweep: Sweep | None = None,
    scores: Sequence[Score | Mapping[str, Any]] | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes index.html.

    Args:
        report: of a compression, or its `as_dict()`; None for a page about a sweep alone.
        folder: where; made if it is not there.
        sweep: shown as accuracy against size and against time, with the Pareto fronts, and as a table.
        scores: of the model, or their `as_dict()`.
        overwrite: replace a page that is there.

    Returns:
        The page's path.

    Raises:
        AerogelError: there is nothing to show, `folder` is a file, or a page is there already.
    """
    if report is None and sweep is None:
        raise AerogelError("report: expected a compression's report, a sweep, or both; got neither")
    from aerogel.report.page import page

    folder = as_path("folder", folder)
    if report is not None and not isinstance(report, Mapping) and not is_dataclass(report):
        raise AerogelError(f"report: expected a compression's report, or its as_dict(), got {shown(report)}")
    if sweep is not None:
        from aerogel.sweeps import Sweep as Kind

        instance("sweep", sweep, Kind)
    plain: list[Mapping[str, Any]] = []
    for score in items("scores", () if scores is None else scores):
        plain.append(score.as_dict(values=False) if isinstance(score, Score) else instance("scores", score, Mapping))
    if folder.exists() and not folder.is_dir():
        raise AerogelError(f"{folder}: exists and is not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    out = page_in(folder)
    check_file(out, overwrite)
    write_text(out, page(None if report is None else facts_of(report), sweep, plain))
    return out


def page_in(folder: Path) -> Path:
    """The page that `write_report` writes into a folder."""
    return folder / "index.html"

"""The task that --sts, --classify, --text and --retrieval name, and its score as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from aerogel.cli.console import results

if TYPE_CHECKING:
    from aerogel.evaluate import Estimate, Score, Task


def chosen_task(
    sts: Path | None,
    classify: Path | None,
    text: Path | None,
    retrieval: tuple[Path, Path, Path] | None = None,
    context: int = 512,
) -> Task[Any] | None:
    """The task that was asked for, its data read and checked; None: none was."""
    from aerogel.evaluate import Classify, Retrieval, Sts, Text

    if sts is not None:
        return Sts(sts)
    if classify is not None:
        return Classify(classify)
    if text is not None:
        return Text(text, context)
    return None if retrieval is None else Retrieval(*retrieval)


def show(score: Score) -> None:
    """Prints the figures with their intervals, and how they compare."""
    from aerogel.evaluate.task import AGREEMENT

    out = results()
    table = Table("", "", "95 % interval", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    _rows(table, score.figures)
    if score.against is not None:
        _rows(table, {f"dense {name}": value for name, value in score.against.dense.items()})
        kept = score.against.kept
        ratio = f"{score.metric} / dense" if score.lower_is_better else f"{score.metric} kept"
        table.add_row(ratio, _percent(kept.value), _interval(kept, _percent), style="bold")
        _rows(table, {AGREEMENT.get(name, name): value for name, value in score.against.agreement.items()})
    out.print(table)
    facts = ", ".join(f"{name} {value}" for name, value in score.facts.items())
    out.print(f"[dim]{score.task}:[/] {facts}", markup=True, soft_wrap=True)


def _rows(table: Table, figures: Mapping[str, Estimate]) -> None:
    for name, figure in figures.items():
        table.add_row(name, number(figure.value), _interval(figure, number))


def _interval(figure: Estimate, form: Callable[[float], str]) -> str:
    return "" if math.isnan(figure.low) else f"{form(figure.low)} - {form(figure.high)}"


def _percent(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{100 * value:.2f} %"


def number(value: float) -> str:
    """Five significant figures, at least four decimal places below 1."""
    if math.isnan(value):
        return "undefined"
    return f"{value:.4g}" if abs(value) < 0.001 and value else f"{value:.4f}" if abs(value) < 10 else f"{value:.3f}"

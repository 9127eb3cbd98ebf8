"""aerogel eval."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from aerogel.cli.console import check_outputs, console, results
from aerogel.engine.model import load
from aerogel.evaluate import Classify, Estimate, Retrieval, Score, Sts, Task, Text
from aerogel.evaluate.task import AGREEMENT


def chosen_task(
    sts: Path | None,
    classify: Path | None,
    text: Path | None,
    retrieval: tuple[Path, Path, Path] | None,
    context: int,
) -> Task:
    """The one task that was asked for, its data read and checked."""
    if sts is not None:
        return Sts(sts)
    if classify is not None:
        return Classify(classify)
    if text is not None:
        return Text(text, context)
    assert retrieval is not None
    return Retrieval(*retrieval)


def run(folder: str, task: Task, against: str | None, json_file: Path | None, threads: int | None) -> None:
    check_outputs(json_file)
    model = load(folder, threads)
    dense = None if against is None else load(against, threads)
    with console.status(f"Evaluating: {task.name}"):
        score = task.evaluate(model, dense)
    show(score)
    if json_file is not None:
        found = {"model": folder, "against_model": against, **score.as_dict()}
        json_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def show(score: Score) -> None:
    """Prints the figures with their intervals, and how they compare."""
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


def _interval(figure: Estimate, form) -> str:
    return "" if math.isnan(figure.low) else f"{form(figure.low)} - {form(figure.high)}"


def _percent(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{100 * value:.2f} %"


def number(value: float) -> str:
    """Five figures that count, at least four places of what is under 1."""
    if math.isnan(value):
        return "undefined"
    return f"{value:.4g}" if abs(value) < 0.001 and value else f"{value:.4f}" if abs(value) < 10 else f"{value:.3f}"

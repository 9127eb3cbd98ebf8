"""The task that --sts, --classify, --text and --retrieval name, and its score as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from aerogel.cli.console import results

if TYPE_CHECKING:
    from aerogel.evaluate import Domains, Estimate, Score, Task


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


def chosen_tasks(
    sts: Sequence[Path],
    classify: Sequence[Path],
    text: Sequence[Path],
    retrieval: tuple[Path, Path, Path] | None,
    alike: Sequence[Path],
    context: int,
) -> list[Task[Any]]:
    """The data, read and checked."""
    from aerogel.evaluate import Alike

    found = [chosen_task(file, None, None) for file in sts]
    found += [chosen_task(None, file, None) for file in classify]
    found += [chosen_task(None, None, file, context=context) for file in text]
    found += [chosen_task(None, None, None, retrieval)]
    return [*(task for task in found if task is not None), *(Alike(file) for file in alike)]


def show(score: Score) -> None:
    """Prints the figures with their intervals, and how they compare."""
    from aerogel.evaluate.task import AGREEMENT

    out = results()
    table = Table("", "", "95 % interval", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    _rows(table, {AGREEMENT.get(name, name): value for name, value in score.figures.items()})
    if score.against is not None and score.against.dense:
        _rows(table, {f"dense {name}": value for name, value in score.against.dense.items()})
        kept = score.against.kept
        ratio = f"{score.metric} / dense" if score.lower_is_better else f"{score.metric} kept"
        table.add_row(ratio, _percent(kept.value), interval(kept, _percent), style="bold")
        _rows(table, {AGREEMENT.get(name, name): value for name, value in score.against.agreement.items()})
    out.print(table)
    facts = ", ".join(f"{name} {value}" for name, value in score.facts.items())
    out.print(f"[dim]{score.task}:[/] {facts}", markup=True, soft_wrap=True)


#: Columns of a table of several sets, and the heads of those that have something in them.
COLUMNS = {
    "cosine_mean": "cosine",
    "overlap10": "10 nearest",
    "same_label": "same label",
    "rank": "rank",
    "kl_mean": "KL, nats",
    "same_top": "same token",
    "same_top10": "first 10",
}


def show_all(found: Domains) -> None:
    """Prints a row for each set, and the worst of them."""
    scores = found.scores
    there = [name for name in COLUMNS if any(name in _agreement(score) for score in scores.values())]
    rows = {name: _main(score) for name, score in scores.items()}
    width = max(map(len, rows.values()))
    heads = ["", "", "95 % interval", "of dense", "95 % interval"][:width]
    table = Table("set", *heads, *(COLUMNS[name] for name in there), box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for name, cells in rows.items():
        alike = _agreement(scores[name])
        padded = [*cells, *[""] * (width - len(cells))]
        table.add_row(escape(name), *padded, *(number(alike[each].value) if each in alike else "" for each in there))
    out = results()
    out.print(table)
    for figure, (name, estimate) in found.worst().items():
        what = COLUMNS.get(figure, figure)
        out.print(f"worst {what}: {number(estimate.value)} ({interval(estimate, number)}), {name}", markup=False)
    if found.shares_index is not None:
        out.print(f"can share an index with the dense model: {'yes' if found.shares_index else 'no'}", style="bold")


def _main(score: Score) -> list[str]:
    """The main figure with its interval, and how much of the dense model's it is; nothing where a task only compares."""
    if score.task == "alike":
        return []
    main = score.figures[score.metric]
    found = [score.metric, number(main.value), interval(main, number)]
    if score.against is not None and score.against.dense:
        found += [_percent(score.against.kept.value), interval(score.against.kept, _percent)]
    return found


def _agreement(score: Score) -> Mapping[str, Estimate]:
    return {} if score.against is None else score.against.agreement


def _rows(table: Table, figures: Mapping[str, Estimate]) -> None:
    for name, figure in figures.items():
        table.add_row(name, number(figure.value), interval(figure, number))


def interval(figure: Estimate, form: Callable[[float], str]) -> str:
    return "" if math.isnan(figure.low) else f"{form(figure.low)} - {form(figure.high)}"


def _percent(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{100 * value:.2f} %"


def number(value: float) -> str:
    """Five significant figures, at least four decimal places below 1."""
    if math.isnan(value):
        return "undefined"
    return f"{value:.4g}" if abs(value) < 0.001 and value else f"{value:.4f}" if abs(value) < 10 else f"{value:.3f}"

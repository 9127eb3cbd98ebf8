"""aerogel sweep."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from aerogel._util.units import megabytes, milliseconds
from aerogel.cli.console import console, progress_bar, results
from aerogel.cli.options import (
    AlikeFiles,
    ClassifyFiles,
    Context,
    Overwrite,
    Retrieval,
    Source,
    StsFiles,
    TextFiles,
    Threads,
    at_least_one,
)
from aerogel.cli.scoring import chosen_tasks, number

if TYPE_CHECKING:
    from aerogel.sweeps import Sweep
    from aerogel.sweeps.results import Point


def command(
    source: Source,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for results, page and models.")],
    grid: Annotated[
        str,
        typer.Option(
            metavar="KEY=VALUE,... ...",
            help='Options of compress with their values: "sparsity=0.5,0.8 quant=int8,bf16 pattern=unstructured,8:64".',
        ),
    ],
    sts: StsFiles = None,
    classify: ClassifyFiles = None,
    text: TextFiles = None,
    retrieval: Retrieval = None,
    alike: AlikeFiles = None,
    context: Context = 512,
    tokens: Annotated[
        int, typer.Option("--seq", "-s", min=1, help="Encoder: tokens of the sequence that is timed.")
    ] = 128,
    rounds: Annotated[int, typer.Option("--rounds", "-r", min=1, help="Interleaved rounds of timing.")] = 7,
    keep: Annotated[
        str, typer.Option(metavar="best|all", help="Which models to keep: those on a Pareto front, or all.")
    ] = "best",
    overwrite: Overwrite = False,
    threads: Threads = None,
) -> None:
    """Compress a model at every point of a grid, measure each, and plot accuracy against size and time.

    Of several sets the worst counts, as what is kept of the dense model; the mean stands beside it.
    An interrupted sweep continues where it stopped.
    """
    at_least_one(sts=sts, classify=classify, text=text, retrieval=retrieval, alike=alike)
    from aerogel.evaluate import Worst
    from aerogel.report import write_report
    from aerogel.sweeps import sweep

    tasks = chosen_tasks(sts or (), classify or (), text or (), retrieval, alike or (), context)
    task = tasks[0] if len(tasks) == 1 else Worst(tasks)
    with progress_bar("Sweeping") as progress:
        found = sweep(
            source,
            out,
            grid,
            task,
            seq=tokens,
            keep=keep,
            threads=threads,
            rounds=rounds,
            progress=progress,
            overwrite=overwrite,
        )
    show(found)
    page = write_report(None, out, sweep=found, overwrite=True)  # a sweep that continues
    console.print(f"{page}, {out / 'sweep.csv'}, {out / 'sweep.json'}", markup=False, soft_wrap=True)
    if all(point.error for point in found.points if not point.dense):
        raise typer.Exit(1)  # what went wrong stands behind each of them


def show(found: Sweep) -> None:
    """Prints the points; a * is on the Pareto front of its column, a ~ too, but within the intervals of a cheaper one."""
    several = any(point.sets for point in found.points)
    kept = "mean" if several else "of dense" if found.lower_is_better else "kept"
    heads = [
        "",
        "sparsity",
        "size",
        found.metric,
        "95 % interval",
        kept,
        "cosine",
        f"ms, {found.case}",
        "x dense int8",
    ]
    table = Table(*heads, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    rows = zip(found.points, found.rows(), marks(found, "bytes"), marks(found, "ms"))
    for point, row, small, fast in rows:
        low, high = row[f"{found.metric}_low"], row[f"{found.metric}_high"]
        cosine = row.get("cosine_mean")
        table.add_row(
            escape(point.name),
            f"{point.sparsity:.1%}" if math.isfinite(point.sparsity) else "",
            f"{megabytes(point.bytes)} {small}" if math.isfinite(point.bytes) else "",
            number(point.value) if point.score else "",
            "" if low is None or high is None else f"{number(low)} - {number(high)}",
            _kept(point),
            "" if cosine is None else number(cosine),
            f"{milliseconds(point.ms)} {fast}" if math.isfinite(point.ms) else "",
            f"{row['speedup']:.2f}" if row["speedup"] else "",
            style="dim" if point.dense else "bold" if "*" in (small, fast) else None,
        )
    results().print(table)
    results().print("[dim]* on the Pareto front: nothing smaller (faster) scores as well[/]")
    if "~" in (*marks(found, "bytes"), *marks(found, "ms")):
        results().print("[dim]~ on it by chance, perhaps: the 95 % interval overlaps that of a smaller (faster) one[/]")
    for point, warned in zip(found.points, found.warnings()):
        for text in [*warned, *([point.error] if point.error else [])]:  # too long for a column
            results().print(f"{point.name}: {text}", style="yellow", soft_wrap=True, markup=False)
    for note in found.notes:
        console.print(note, style="yellow", soft_wrap=True, markup=False)


def _kept(point: Point) -> str:
    """What is kept of the dense model's score; of several sets their mean, beside which the worst stands."""
    if "mean" in point.sets:
        return number(point.sets["mean"])
    return f"{point.kept():.2%}" if math.isfinite(point.kept()) else ""


def marks(found: Sweep, cost: str) -> list[str]:
    """For each point what stands behind its cost."""
    return ["*" if sure else "~" if on else " " for on, sure in zip(found.front(cost), found.best(cost), strict=True)]

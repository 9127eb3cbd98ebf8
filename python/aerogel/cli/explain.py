"""aerogel explain."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from aerogel._util.text import middle
from aerogel._util.units import megabytes
from aerogel.cli.console import NAME, check_outputs, names_column, progress_bar, results, write_json
from aerogel.cli.options import FILES, Folder, JsonFile, Memory, Overwrite, Threads

if TYPE_CHECKING:
    from aerogel.explanation import Explanation, LayerReport, WhatIf


#: Columns that all of the table takes.
WIDE = 130
#: Those that are left out where there is less room.
NARROW = (3, 5, 9, 10)


def command(
    folder: Folder,
    batch: Annotated[int, typer.Option("--batch", "-b", min=1, help="Sequences.")] = 1,
    tokens: Annotated[
        int, typer.Option("--seq", "-s", min=1, help="Tokens of each; 1 shows a step of decoding.")
    ] = 128,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            "--what-if",
            "-w",
            metavar="KEY=VALUE,...",
            help="Predict what pruning would bring: sparsity=0.8,pattern=4x1; also quant=int8 or int4:g64. Repeatable.",
        ),
    ] = None,
    memory: Memory = None,
    json_file: JsonFile = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw time and sparsity of each layer (needs matplotlib).",
            rich_help_panel=FILES,
        ),
    ] = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
) -> None:
    """Say why a model is as fast as it is, layer by layer, and what would make it faster."""
    from aerogel.explanation import explain

    if plot is not None:  # before the work, not after it
        from aerogel.bench.plot import check

        check(plot)
    check_outputs(json_file, plot, overwrite=overwrite)
    with progress_bar("Measuring shapes") as progress:
        found = explain(folder, batch, tokens, threads, memory, progress, what_if)
    show(found)
    write_json(json_file, asdict(found))
    if plot is not None:
        from aerogel.explanation.plot import draw

        draw(found, folder, plot)


def show(found: Explanation) -> None:
    """Prints the layers, the rest, and the advice."""
    out = results()
    heads = ("shape", "zeros", "pattern", "runs as", "alone ms", "ms", "dense ms", "gain", "sparse wins from", "memory")
    table = Table(names_column("layer"), *heads, box=None, pad_edge=False)
    for column in (table.columns[2], *table.columns[5:]):
        column.justify, column.no_wrap = "right", True
    for layer in found.layers:
        table.add_row(
            middle(layer.name, NAME),
            f"{layer.shape[0]}x{layer.shape[1]}",
            f"{layer.sparsity:.1%}",
            layer.pattern,
            f"{layer.format}, static x" if layer.limit else layer.format,
            "" if layer.predicted_ms is None else f"{layer.predicted_ms:.3f}",
            f"{layer.measured_ms:.3f}",
            f"{layer.dense_ms:.3f}",
            f"{layer.dense_ms / layer.measured_ms:.1f}x",
            wins(layer),
            megabytes(layer.nbytes),
        )
    if out.width < WIDE:  # numbers are left out, not cut
        left_out = [column for i, column in enumerate(table.columns) if i in NARROW]
        table.columns = [column for column in table.columns if column not in left_out]
    out.print(table)
    if out.width < WIDE:
        names = ", ".join(str(column.header) for column in left_out)
        out.print(
            f"[dim]not shown: {names}: they need {WIDE} columns, this terminal has {out.width}; --json has them[/]"
        )
    rest = "".join(
        f", {op} {ms:.2f}" + (f" ({found.attention} products)" if op == "attention" else "")
        for op, ms in sorted(found.rest_ms.items(), key=lambda pair: -pair[1])
        if ms >= 0.005
    )
    out.print(
        f"\nlinear layers {found.linear_ms:.2f} ms{rest}\n"
        f"all {found.total_ms:.2f} ms, {found.dense_total_ms / found.total_ms:.2f}x faster than its dense form "
        f"({found.dense_total_ms:.2f} ms)\n"
    )
    for line in found.advice:
        out.print(f"* {line}")
    for each in found.what_if:
        predicted(each)
    out.print(
        f"\n[dim]{found.batch} x {found.tokens} tokens, {found.cpu}, {found.isa}, {found.threads} threads; medians of "
        "interleaved runs. alone: the kernel by itself, when it was chosen; dense: the same layer in the dense format.[/]"
    )


def predicted(found: WhatIf) -> None:
    """Prints what a scenario would bring."""
    out = results()
    out.print(
        f"\nwhat if {found.scenario}: linear layers {found.linear_ms:.2f} ms (dense {found.dense_linear_ms:.2f}), "
        f"all {found.total_ms:.2f} ms, {found.gain:.2f}x faster than dense {found.numbers} ({found.dense_total_ms:.2f} ms)",
        markup=False,
    )
    for line in found.notes:
        out.print(f"* {line}", markup=False)


def wins(layer: LayerReport) -> str:
    """The sparsity from which sparse wins, as text."""
    if layer.wins_from is None:
        return "never"
    return f"{layer.wins_from:.0%}" if layer.wins_from > 0.3 else "30% or less"

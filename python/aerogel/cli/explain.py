"""aerogel explain."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from aerogel._util.units import megabytes
from aerogel.cli.console import check_outputs, progress_bar, results
from aerogel.explanation import Explanation, LayerReport, explain


def run(
    folder: str,
    batch: int,
    tokens: int,
    memory: float | None,
    json_file: Path | None,
    plot: Path | None,
    threads: int | None,
) -> None:
    if plot is not None:  # before the work, not after it
        from aerogel.bench.plot import check

        check(plot)
    check_outputs(json_file, plot)
    with progress_bar("Measuring shapes") as progress:
        found = explain(folder, batch, tokens, threads, memory, progress)
    show(found)
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
    if plot is not None:
        from aerogel.explanation.plot import draw

        draw(found, folder, plot)


def show(found: Explanation) -> None:
    """Prints the layers, the rest, and the advice."""
    table = Table(
        "layer", "shape", "zeros", "pattern", "runs as", "alone", "measured", "dense", "gain", "sparse wins from", "memory",
        box=None, pad_edge=False,
    )  # fmt: skip
    for column in table.columns[5:]:
        column.justify = "right"
    table.columns[2].justify = "right"
    for layer in found.layers:
        table.add_row(
            layer.name,
            f"{layer.shape[0]}x{layer.shape[1]}",
            f"{layer.sparsity:.1%}",
            layer.pattern,
            f"{layer.format}, static x" if layer.limit else layer.format,
            "" if layer.predicted_ms is None else f"{layer.predicted_ms:.3f} ms",
            f"{layer.measured_ms:.3f} ms",
            f"{layer.dense_ms:.3f} ms",
            f"{layer.dense_ms / layer.measured_ms:.1f}x",
            wins(layer),
            megabytes(layer.nbytes),
        )
    out = results()
    out.print(table)
    rest = "".join(
        f", {op} {ms:.2f}" for op, ms in sorted(found.rest_ms.items(), key=lambda pair: -pair[1]) if ms >= 0.005
    )
    out.print(
        f"\nlinear layers {found.linear_ms:.2f} ms{rest}\n"
        f"all {found.total_ms:.2f} ms, {found.dense_total_ms / found.total_ms:.2f}x faster than its dense form "
        f"({found.dense_total_ms:.2f} ms)\n"
    )
    for line in found.advice:
        out.print(f"* {line}")
    out.print(
        f"\n[dim]{found.batch} x {found.tokens} tokens, {found.cpu}, {found.isa}, {found.threads} threads; medians of "
        "interleaved runs. alone: the kernel by itself, when it was chosen; dense: the same layer in the dense format.[/]"
    )


def wins(layer: LayerReport) -> str:
    """The sparsity from which sparse wins, for people."""
    if layer.wins_from is None:
        return "never"
    return f"{layer.wins_from:.0%}" if layer.wins_from > 0.3 else "30% or less"

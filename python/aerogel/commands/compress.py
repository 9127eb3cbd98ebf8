"""aerogel compress."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from aerogel.commands.console import console, progress_bar
from aerogel.compression import CompressReport, compress
from aerogel.units import megabytes


def run(source: str, out: Path, given: Mapping[str, Any], json_file: Path | None, threads: int | None) -> None:
    with progress_bar(f"Compressing {source}") as progress:
        report = compress(source, out, threads=threads, progress=progress, **given)
    show(report)
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8")


def show(report: CompressReport) -> None:
    """Kinds of layers in a table, and the whole in a line."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("layers", "shape", "number", "zeros", "bits/weight", "weight error", "output error"):
        table.add_column(column, justify="left" if column in ("layers", "shape") else "right")
    for kind, tensors in _kinds(report).items():
        errors = [t.output_error for t in tensors if t.output_error is not None]
        shapes = sorted({t.shape for t in tensors})
        table.add_row(
            kind,
            "x".join(map(str, shapes[0])) + (" ..." if len(shapes) > 1 else ""),
            str(len(tensors)),
            _range([t.sparsity for t in tensors], "{:.1%}"),
            _range([t.bits for t in tensors], "{:.2f}"),
            _range([t.error for t in tensors], "{:.3f}"),
            _range(errors, "{:.3f}") if errors else "",
        )
    console.print(table)
    for note in report.notes:
        console.print(note, style="yellow", markup=False)
    console.print(
        f"{report.path}: {megabytes(report.file_bytes)}, {report.dense_bytes / report.file_bytes:.1f}x smaller than float32; "
        f"{report.sparsity:.1%} of the linear weights are zero, {report.bits:.2f} bits a weight ({report.seconds:.1f} s)",
        markup=False,
    )


def _kinds(report: CompressReport) -> dict[str, list[Any]]:
    """Matrices by what they are: the name without the layer's number and "weight"."""
    kinds: dict[str, list[Any]] = {}
    for tensor in report.tensors:
        if tensor.role != "kept":
            parts = [part for part in tensor.name.split(".") if not part.isdigit() and part != "weight"]
            kinds.setdefault(".".join(parts[-3:]), []).append(tensor)
    return kinds


def _range(values: list[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} - {high}"

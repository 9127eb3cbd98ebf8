"""What `aerogel compress` shows of its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from aerogel._util.units import megabytes, milliseconds
from aerogel.cli.console import console
from aerogel.cli.scoring import COLUMNS, interval, number

if TYPE_CHECKING:
    from aerogel.compression import Check, CompressReport, TensorReport
    from aerogel.compression.predict import Prediction


def show(report: CompressReport, expected: Prediction | None, seconds: float) -> None:
    """Kinds of layers in a table, the whole in a line, and how long the linears take; `seconds` is what all of it took."""
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
        f"{report.path}: {megabytes(report.file_bytes)}, {report.dense_bytes / report.file_bytes:.1f}x smaller than "
        "float32; "
        f"{report.sparsity:.1%} of the linear weights are zero, {report.bits:.2f} bits a weight ({seconds:.1f} s)",
        markup=False,
    )
    if expected is not None:
        console.print(
            f"linears with zeros, 1x{expected.tokens} tokens: {milliseconds(1e3 * expected.seconds)} ms measured here, "
            f"{milliseconds(1e3 * expected.dense)} ms were they dense",
            markup=False,
        )


def _kinds(report: CompressReport) -> dict[str, list[TensorReport]]:
    """Matrices by what they are: the name without the layer's number and "weight"."""
    kinds: dict[str, list[TensorReport]] = {}
    for tensor in report.tensors:
        if tensor.role != "kept":
            parts = [part for part in tensor.name.split(".") if not part.isdigit() and part != "weight"]
            kinds.setdefault(".".join(parts[-3:]), []).append(tensor)
    return kinds


def _range(values: list[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} - {high}"


def show_check(check: Check) -> None:
    """How alike the answers are to the source's, domain by domain, the worst first."""
    figures = [name for name in ("perplexity / dense", *COLUMNS) if name in check.worst.figures]
    heads = [head for name in figures for head in (COLUMNS.get(name, name), "95 % interval")]
    table = Table(
        "beside the source, on", "calibrated on its kind", *heads, box=None, pad_edge=False, header_style="dim"
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for domain in check.domains:
        cells = [
            cell
            for name in figures
            for cell in (number(domain.figures[name].value), interval(domain.figures[name], number))
        ]
        table.add_row(escape(domain.name), "yes" if domain.seen else "no", *cells)
    console.print(table)
    if check.shares_index is not None:
        can = "can" if check.shares_index else "cannot"
        console.print(f"its embeddings {can} share a search index with the source's", markup=False)
    for warning in check.warnings:
        console.print(warning, style="yellow", markup=False)

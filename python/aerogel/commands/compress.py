"""aerogel compress."""

from __future__ import annotations

from pathlib import Path

from aerogel.commands.console import console, progress_bar
from aerogel.compression import compress
from aerogel.units import megabytes


def run(source: str, out: Path, sparsity: float | None, pattern: str, quant: str, threads: int | None) -> None:
    with progress_bar(f"Compressing {source}") as progress:
        report = compress(source, out, sparsity, pattern, quant, threads, progress)
    console.print(
        f"{out}: {megabytes(report.file_bytes)}, {report.dense_bytes / report.file_bytes:.1f}x smaller than float32; "
        f"{report.sparsity:.1%} of the linear weights are zero ({report.seconds:.1f} s)",
        markup=False,
    )

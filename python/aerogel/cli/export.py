"""aerogel export."""

from __future__ import annotations

from pathlib import Path

from aerogel._util.units import megabytes
from aerogel.cli.console import console, progress_bar
from aerogel.exporting import export


def run(source: str, out: Path, dtype: str, max_shard_bytes: int | None) -> None:
    with progress_bar(f"Exporting {source}") as progress:
        report = export(source, out, dtype, max_shard_bytes, progress)
    files = "" if len(report.files) == 1 else f" in {len(report.files)} files"
    console.print(
        f"{out}: {megabytes(report.file_bytes)} of {dtype}{files}; {report.sparsity:.1%} of the linear weights are zero "
        f"({report.seconds:.1f} s)",
        markup=False,
    )

"""aerogel export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aerogel._util.units import megabytes
from aerogel.cli.console import console, progress_bar
from aerogel.cli.options import Folder, Overwrite, Rerank


def command(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the dense model.")],
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    shard_mb: Annotated[
        int | None, typer.Option("--shard-mb", min=1, help="Most MB of one file. \\[default: one file]")
    ] = None,
    overwrite: Overwrite = False,
    rerank: Rerank = None,
) -> None:
    """Write a model as a plain dense folder that transformers loads, zeros in place."""
    from aerogel.exporting import export

    with progress_bar(f"Exporting {folder}") as progress:
        report = export(folder, out, dtype, None if shard_mb is None else shard_mb * 10**6, progress, overwrite, rerank)
    files = "" if len(report.files) == 1 else f" in {len(report.files)} files"
    console.print(
        f"{out}: {megabytes(report.file_bytes)} of {dtype}{files}; {report.sparsity:.1%} of the linear weights are zero "
        f"({report.seconds:.1f} s)",
        markup=False,
    )

"""aerogel embed-dataset."""

from __future__ import annotations

from typing import Annotated

import typer

from aerogel.cli.console import progress_bar, say
from aerogel.cli.options import Quant

MANY = "Machines"


def command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN", help="A .parquet, .csv, .jsonl or .txt file, a folder of such, or a quoted pattern."
        ),
    ],
    out: Annotated[str, typer.Argument(metavar="OUT", help="The folder for the Parquet files.")],
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="DIR", help="A packed model, or any that aerogel reads.")
    ],
    column: Annotated[str, typer.Option(help="The column of texts.")] = "text",
    output: Annotated[str, typer.Option(help="The column for the embeddings.")] = "embedding",
    keep: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="The other columns of the output. \\[default: the input's]")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="float32, float16, or one bit a number: binary (int8) or ubinary (uint8).")
    ] = "float32",
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Stands before each text. \\[default: the model's own for documents, if any]"
        ),
    ] = None,
    truncate_dim: Annotated[int | None, typer.Option(min=1, help="Keep so many numbers of each embedding.")] = None,
    quant: Quant = None,
    part_rows: Annotated[
        int | None,
        typer.Option(min=1, help="Rows of an output file. \\[default: for 64 files, from 256 to 10240 rows]"),
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", "-t", min=1, help="CPUs of each worker.", rich_help_panel=MANY)
    ] = 1,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers. \\[default: as there are CPUs for]", rich_help_panel=MANY)
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="A Ray cluster; auto: the one this machine is of. \\[default: Ray on this machine alone]",
            rich_help_panel=MANY,
        ),
    ] = None,
    retries: Annotated[
        int,
        typer.Option(min=0, help="How often a part is tried again when its worker is lost.", rich_help_panel=MANY),
    ] = 3,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew where OUT has files of another run.")
    ] = False,
) -> None:
    """Embed the texts of files, on one machine or many, into Parquet files. Started again, it goes on where it ended."""
    from aerogel.ray.dataset import embed_dataset

    with progress_bar("Embedding") as progress:
        done = embed_dataset(
            source,
            out,
            model,
            column=column,
            output=output,
            keep=None if keep is None else keep.split(","),
            precision=precision,
            prompt=prompt,
            truncate_dim=truncate_dim,
            quant=quant,
            part_rows=part_rows,
            threads=threads,
            workers=workers,
            retries=retries,
            address=address,
            overwrite=overwrite,
            progress=progress,
        )
    before = f", {done.parts_before} of them before" if done.parts_before else ""
    say(f"{out}: {done.rows} rows in {done.parts} files{before}; {done.seconds:.1f} s")

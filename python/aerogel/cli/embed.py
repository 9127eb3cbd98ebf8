"""aerogel embed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aerogel.cli.console import check_outputs, console, loaded, read_lines
from aerogel.cli.options import Folder, Threads


def command(
    folder: Folder,
    file: Annotated[str, typer.Argument(metavar="[FILE|-]", help="Texts, one a line; - is standard input.")] = "-",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line, with text and embedding.")
    ] = False,
    npy: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Write a float32 [n, hidden] .npy file instead of printing."),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="mean, cls, max or last. \\[default: what the model's files say]"),
    ] = None,
    threads: Threads = None,
) -> None:
    """Embed texts: by default prints one line of numbers per text."""
    if as_json and npy is not None:
        raise typer.BadParameter("--json and --npy exclude each other")
    import json

    import numpy as np

    check_outputs(npy)
    texts = read_lines(file)
    embeddings = loaded(folder, threads, pooling=pooling).encode(texts)
    if npy is not None:
        with npy.open("wb") as out:  # np.save would add a suffix to a name that has none
            np.save(out, embeddings)
        console.print(f"{npy}: float32 {list(embeddings.shape)}", markup=False)
        return
    for text, embedding in zip(texts, embeddings, strict=True):
        if as_json:
            values = [float(f"{value:.9g}") for value in embedding]  # 9 digits give the same float32 back
            line = json.dumps({"text": text, "embedding": values})
        else:
            line = " ".join(f"{value:.9g}" for value in embedding)
        sys.stdout.write(line + "\n")

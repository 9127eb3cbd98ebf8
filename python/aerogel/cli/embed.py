"""aerogel embed."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aerogel._util.files import writing
from aerogel.cli.console import check_outputs, console, loaded, stream_lines
from aerogel.cli.options import Folder, Overwrite, Quant, Threads

if TYPE_CHECKING:
    import numpy as np

    from aerogel.engine.model import Model

#: Texts that are read and embedded at once.
PART = 256


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
        typer.Option(
            metavar="MODE",
            help="mean, cls, max, last, mean_sqrt_len or weightedmean. \\[default: what the model's files say]",
        ),
    ] = None,
    quant: Quant = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
) -> None:
    """Embed texts: by default prints one line of numbers per text."""
    if as_json and npy is not None:
        raise typer.BadParameter("--json and --npy exclude each other")
    import json

    check_outputs(npy, overwrite=overwrite, inputs=(file,))
    texts = stream_lines(file)
    model = loaded(folder, threads, pooling=pooling, quant=quant)
    if npy is not None:
        rows, width = write_npy(npy, (model.encode(part) for part in parts(texts)), model)
        console.print(f"{npy}: float32 {[rows, width]}", markup=False)
        return
    for part in parts(texts):
        for text, embedding in zip(part, model.encode(part), strict=True):
            if as_json:
                values = [float(f"{value:.9g}") for value in embedding]  # 9 digits give the same float32 back
                line = json.dumps({"text": text, "embedding": values})
            else:
                line = " ".join(f"{value:.9g}" for value in embedding)
            sys.stdout.write(line + "\n")
        sys.stdout.flush()


def parts(texts: Iterator[str]) -> Iterator[list[str]]:
    """The texts, so many at a time that memory is bounded and the kernels are filled."""
    while part := list(itertools.islice(texts, PART)):
        yield part


def write_npy(file: Path, embeddings: Iterator[np.ndarray], model: Model) -> tuple[int, int]:
    """Writes rows as they come; the number of them is filled in at the end. Returns the shape."""
    import numpy as np

    def header(rows: int, width: int) -> bytes:
        found = io.BytesIO()
        described = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
        np.lib.format.write_array_header_1_0(found, described)
        return found.getvalue()

    rows, width = 0, int(model.encode([]).shape[1])
    with writing(file) as out:
        out.write(header(0, width))
        for part in embeddings:
            rows += len(part)
            out.write(np.ascontiguousarray(part, "<f4").tobytes())
        out.seek(0)
        out.write(header(rows, width))  # padded to the same length
    return rows, width

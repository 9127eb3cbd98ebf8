"""aerogel eval."""

from __future__ import annotations

from typing import Annotated

import typer

from aerogel.cli.console import check_outputs, console, loaded, write_json
from aerogel.cli.options import (
    Classify,
    Context,
    Folder,
    JsonFile,
    Overwrite,
    Quant,
    Retrieval,
    Sts,
    TextFile,
    Threads,
    exactly_one,
)
from aerogel.cli.scoring import chosen_task, show


def command(
    folder: Folder,
    sts: Sts = None,
    classify: Classify = None,
    text: TextFile = None,
    retrieval: Retrieval = None,
    context: Context = 512,
    against: Annotated[
        str | None,
        typer.Option(metavar="DENSE", help="The uncompressed model: also show how much of its score is kept."),
    ] = None,
    quant: Quant = None,
    json_file: JsonFile = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
) -> None:
    """Measure accuracy: one of --sts, --classify, --text and --retrieval, with 95 % confidence intervals."""
    exactly_one(sts=sts, classify=classify, text=text, retrieval=retrieval)
    task = chosen_task(sts, classify, text, retrieval, context)
    assert task is not None
    check_outputs(json_file, overwrite=overwrite, inputs=(sts, classify, text, *(retrieval or ())))
    model = loaded(folder, threads, quant=quant)
    dense = None if against is None else loaded(against, threads)
    with console.status(f"Evaluating: {task.name}"):
        score = task.evaluate(model, dense)
    show(score)
    write_json(
        json_file, {"model": folder, "quantization": model.quantization, "against_model": against, **score.as_dict()}
    )

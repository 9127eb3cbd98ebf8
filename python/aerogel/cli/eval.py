"""aerogel eval."""

from __future__ import annotations

from typing import Annotated

import typer

from aerogel.cli.console import check_outputs, console, loaded, write_json
from aerogel.cli.options import (
    AlikeFiles,
    ClassifyFiles,
    Context,
    Folder,
    JsonFile,
    Overwrite,
    Quant,
    Retrieval,
    StsFiles,
    TextFiles,
    Threads,
    at_least_one,
)
from aerogel.cli.scoring import chosen_tasks, show, show_all


def command(
    folder: Folder,
    sts: StsFiles = None,
    classify: ClassifyFiles = None,
    text: TextFiles = None,
    retrieval: Retrieval = None,
    alike: AlikeFiles = None,
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
    """Measure accuracy on one or more sets, with 95 % confidence intervals; several give a table and the worst of them."""
    at_least_one(sts=sts, classify=classify, text=text, retrieval=retrieval, alike=alike)
    if alike and against is None:
        raise typer.BadParameter("--alike compares with the uncompressed model: expected --against DENSE too")
    tasks = chosen_tasks(sts or (), classify or (), text or (), retrieval, alike or (), context)
    check_outputs(json_file, overwrite=overwrite, inputs=[file for task in tasks for file in task.files.values()])
    model = loaded(folder, threads, quant=quant)
    dense = None if against is None else loaded(against, threads)
    head = {"model": folder, "quantization": model.quantization, "against_model": against}
    if len(tasks) == 1:
        with console.status(f"Evaluating: {tasks[0].name}"):
            score = tasks[0].evaluate(model, dense)
        show(score)
        write_json(json_file, {**head, **score.as_dict()})
        return
    from aerogel.evaluate import evaluate_all

    with console.status(f"Evaluating: {len(tasks)} sets"):
        found = evaluate_all(model, tasks, dense)
    show_all(found)
    write_json(json_file, {**head, **found.as_dict()})

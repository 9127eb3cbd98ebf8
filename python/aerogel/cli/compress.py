"""aerogel compress."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aerogel.cli import scoring
from aerogel.cli.compressed import show, show_check
from aerogel.cli.console import check_outputs, console, loaded, progress_bar, write_json
from aerogel.cli.options import (
    DATA,
    FILES,
    METHOD,
    Classify,
    JsonFile,
    Overwrite,
    Pattern,
    Rerank,
    Source,
    Sts,
    TextFile,
    Threads,
    amount,
    recipe_values,
)

if TYPE_CHECKING:
    from aerogel.compression import CompressReport, Target
    from aerogel.compression.predict import Prediction
    from aerogel.compression.recipe import Recipe
    from aerogel.evaluate import Task

#: More of the evaluation's texts than this among the calibration texts is said.
OVERLAP = 0.05
TARGET, RECIPE = "Target: the sparsity is chosen for it", "Recipe"


def command(
    source: Source,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the packed model.")],
    calibrate: Annotated[
        list[str] | None,
        typer.Option(
            "--calibrate",
            "-c",
            metavar="FILE",
            help="Calibration texts (.txt .csv .tsv .jsonl); general: the mix of all kinds that aerogel carries; self: "
            "what a language model writes itself. \\[default: general, where texts are needed]",
        ),
    ] = None,
    mix: Annotated[
        float | None,
        typer.Option(
            "--mix",
            metavar="X",
            min=0,
            max=1,
            help="Which part of the calibration is of the general mix, beside files: 0.5.",
        ),
    ] = None,
    sparsity: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Fraction of weights to remove. "
            "\\[default: what the pattern says, else none: zeros that are there stay]",
            rich_help_panel=METHOD,
        ),
    ] = None,
    pattern: Pattern = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="admm, obs, wanda, or magnitude: without calibration texts. \\[default: admm]",
            rich_help_panel=METHOD,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="How layers share the sparsity: uniform, global, owl, sensitivity.", rich_help_panel=METHOD),
    ] = None,
    quant: Annotated[
        str | None,
        typer.Option(
            help="int8, int8:g64, int4 (int4:g32:asym), int4:g64, codebook:16, bf16, none, or auto:4.5bits: in 4 or 8.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    pack: Annotated[
        str | None,
        typer.Option(help="plain, or small: entropy-coded, the smallest file.", rich_help_panel=METHOD),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed.", rich_help_panel=METHOD)] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.yaml",
            help="A recipe; options on the command line override its values.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other value of the recipe, such as structure.ffn=0.5.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--target-size", metavar="SIZE", help="The least sparsity that fits: 12MB.", rich_help_panel=TARGET
        ),
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(
            "--target-latency",
            metavar="TIME",
            help="The least sparsity, in the pattern, that is fast enough on this CPU: 2ms.",
            rich_help_panel=TARGET,
        ),
    ] = None,
    tokens: Annotated[
        int,
        typer.Option(
            "--seq",
            "-s",
            min=1,
            help="Tokens of the sequence whose latency is meant.",
            rich_help_panel=TARGET,
        ),
    ] = 128,
    drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            metavar="X",
            help="The highest sparsity that loses at most this fraction of the score, or without data of the agreement with "
            "the source on the worst kind of text: 0.01.",
            rich_help_panel=TARGET,
        ),
    ] = None,
    sts: Sts = None,
    classify: Classify = None,
    text: TextFile = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check",
            help="Compare the answers with the source's on texts that calibration did not see, kind by kind.",
            rich_help_panel=DATA,
        ),
    ] = True,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a page about the result, index.html.", rich_help_panel=FILES),
    ] = None,
    json_file: JsonFile = None,
    overwrite: Overwrite = False,
    rerank: Rerank = None,
    threads: Threads = None,
) -> None:
    """Prune and quantize a model into a packed model.

    In the end its answers are compared with the source's on texts of many kinds that calibration did not see; with data
    (--sts, --classify or --text) it is scored beside the source too.
    """
    _check_goals(goals=(size, latency, drop), data=(sts, classify, text))
    from aerogel.compression import compress
    from aerogel.report import page_in

    page = report and (page_in(report) if report.exists() else report)
    check_outputs(json_file, page, overwrite=overwrite, inputs=(sts, classify, text, recipe, *_files(calibrate, None)))
    task = scoring.chosen_task(sts, classify, text)
    whole = _recipe(recipe, values or [])
    target = _target(size, latency, tokens, drop, task)
    _warn_of_overlap(_files(calibrate, whole), task)
    begin = time.perf_counter()
    with progress_bar(f"Compressing {source}") as progress:
        done = compress(
            source,
            out,
            sparsity=sparsity,
            pattern=pattern,
            quant=quant,
            method=method,
            budget=budget,
            calibrate=calibrate,
            mix=mix,
            pack=pack,
            seed=seed,
            recipe=whole,
            target=target,
            threads=threads,
            progress=progress,
            overwrite=overwrite,
            rerank=rerank,
            check=check,
        )
    expected = _prediction(done, tokens, threads)
    show(done, expected, time.perf_counter() - begin)
    if done.check is not None:
        show_check(done.check)
    _report(done, source, task, report, json_file, overwrite, threads, rerank)


def _check_goals(goals: Sequence[Any], data: Sequence[Path | None]) -> None:
    if sum(goal is not None for goal in goals) > 1:
        raise typer.BadParameter("expected one of --target-size, --target-latency and --max-drop")
    if sum(file is not None for file in data) > 1:
        raise typer.BadParameter("expected one of --sts, --classify and --text")


def _target(
    size: str | None, latency: str | None, tokens: int, drop: float | None, task: Task[Any] | None
) -> Target | None:
    """What the sparsity is chosen for, if anything."""
    from aerogel.compression import Target
    from aerogel.engine.model import load

    if size is not None:
        return Target(size=round(amount(size, {"": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}, "--target-size")))
    if latency is not None:
        return Target(
            latency=amount(latency, {"us": 1e-6, "ms": 1e-3, "s": 1}, "--target-latency"),
            tokens=tokens,
        )
    if drop is not None and task is None:
        return Target(drop=drop)
    if drop is not None:
        assert task is not None
        return Target(drop=drop, score=(lambda path: task.evaluate(load(path)).value, task.lower_is_better))
    return None


def _recipe(file: Path | None, values: Sequence[str]) -> Recipe | Path | None:
    """The recipe's file, or what is in it with the values of --set."""
    from aerogel.compression.recipe import Recipe, with_values

    if not values:
        return file
    return with_values(Recipe() if file is None else Recipe.read(file), recipe_values(values))


def _prediction(report: CompressReport, tokens: int, threads: int | None) -> Prediction | None:
    """How long the linears take here, where kernels may be measured; the first load then finds them known."""
    from aerogel.compression.predict import predict
    from aerogel.tuning import enabled

    if not enabled():
        return None
    with progress_bar("Measuring kernels, once", at_once=False) as progress:
        return predict(report, tokens, threads, progress)


def _files(calibrate: Sequence[str] | None, recipe: Recipe | Path | None) -> Sequence[Path]:
    """The files of calibration texts that --calibrate, or else the recipe, names."""
    from aerogel.calibrate import GENERAL, SELF
    from aerogel.compression.recipe import Recipe

    names: Sequence[str] = calibrate or ()
    if not names and recipe is not None:
        names = (recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)).calibration.files
    return [Path(name) for name in names if name not in (GENERAL, SELF)]


def _warn_of_overlap(files: Sequence[Path], task: Task[Any] | None) -> None:
    """Says, before hours of work, where the texts of the score are those that will be fitted to."""
    if task is None or not files:
        return
    from aerogel.calibrate import read_texts

    fitted = {text for file in files for text in read_texts(file)}
    for file in task.files.values():
        texts = read_texts(file)
        share = sum(text in fitted for text in texts) / len(texts)
        if share > OVERLAP:
            console.print(
                f"{file}: {share:.0%} of the evaluation texts are calibration texts: the score says too much",
                style="yellow",
                markup=False,
            )


def _report(
    report: CompressReport,
    source: str,
    task: Task[Any] | None,
    folder: Path | None,
    json_file: Path | None,
    overwrite: bool,
    threads: int | None,
    rerank: str | None,
) -> None:
    """Scores the result if there is data, and writes the files that were asked for."""
    score = (
        None if task is None else task.evaluate(loaded(report.path, threads), loaded(source, threads, rerank=rerank))
    )
    if score is not None:
        scoring.show(score)
    if folder is not None:
        from aerogel.report import write_report

        page = write_report(report, folder, scores=[score] if score else None, overwrite=overwrite)
        console.print(f"{page}: the report", markup=False)
    write_json(json_file, {**report.as_dict(), **({"score": score.as_dict(values=False)} if score else {})})

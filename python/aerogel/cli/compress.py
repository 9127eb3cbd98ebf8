"""aerogel compress."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from aerogel._util.units import megabytes, milliseconds
from aerogel.cli import eval as scores
from aerogel.cli.console import check_outputs, console, progress_bar
from aerogel.compression import CompressReport, Target, TensorReport, compress
from aerogel.compression.predict import predict
from aerogel.compression.recipe import Recipe, with_values
from aerogel.engine.model import load
from aerogel.errors import RecipeError
from aerogel.evaluate import Score, Task
from aerogel.tuning import enabled


@dataclass(frozen=True)
class Goal:
    """What the command line asks for besides the recipe: at most one target, and data to score on."""

    size: str | None = None
    latency: str | None = None
    tokens: int = 128
    drop: float | None = None
    sts: Path | None = None
    classify: Path | None = None
    text: Path | None = None

    def task(self) -> Task | None:
        if self.sts is None and self.classify is None and self.text is None:
            return None
        return scores.chosen_task(self.sts, self.classify, self.text, None, 512)

    def target(self, task: Task | None) -> Target | None:
        if self.size is not None:
            return Target(size=round(amount(self.size, {"": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}, "--target-size")))
        if self.latency is not None:
            seconds = amount(self.latency, {"us": 1e-6, "ms": 1e-3, "s": 1}, "--target-latency")
            return Target(latency=seconds, tokens=self.tokens)
        if self.drop is not None:
            assert task is not None
            return Target(drop=self.drop, score=(lambda path: task.evaluate(load(path)).value, task.lower_is_better))
        return None


def run(
    source: str,
    out: Path,
    given: Mapping[str, Any],
    values: Sequence[str],
    goal: Goal,
    report_folder: Path | None,
    json_file: Path | None,
    threads: int | None,
) -> None:
    check_outputs(json_file, report_folder)
    task = goal.task()
    target = goal.target(task)
    recipe = given["recipe"]
    if values:
        recipe = with_values(Recipe() if recipe is None else Recipe.read(recipe), parsed(values))
    with progress_bar(f"Compressing {source}") as progress:
        report = compress(source, out, threads=threads, progress=progress, **{**given, "recipe": recipe}, target=target)
    show(report)
    if enabled():
        with console.status("Measuring kernels on this machine"):
            expected = predict(report, goal.tokens, threads)
        if expected is not None:
            console.print(
                f"linears of 1x{expected.tokens} tokens: {milliseconds(1e3 * expected.seconds)} ms predicted here, "
                f"{milliseconds(1e3 * expected.dense)} ms dense int8",
                markup=False,
            )
    scored: Score | None = None
    if task is not None:
        scored = task.evaluate(load(out, threads), load(source, threads))
        scores.show(scored)
    if report_folder is not None:
        from aerogel.report import write_report

        page = write_report(report, report_folder, scores=[scored] if scored else None)
        console.print(f"{page}: the report", markup=False)
    if json_file is not None:
        found = {**report.as_dict(), **({"score": scored.as_dict(values=False)} if scored else {})}
        json_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def parsed(values: Sequence[str]) -> dict[str, Any]:
    """["structure.ffn=0.5"] as {"structure.ffn": 0.5}: values are YAML.

    Raises:
        RecipeError: there is no =, or what follows is not YAML.
    """
    import yaml

    found = {}
    for text in values:
        key, equal, value = text.partition("=")
        if not key or not equal:
            raise RecipeError(f"--set: expected KEY=VALUE, got {text!r}")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {key}: expected a value as in YAML, got {value!r}") from error
    return found


def amount(text: str, units: Mapping[str, float], option: str) -> float:
    """ "12MB" in bytes, "2ms" in seconds.

    Raises:
        RecipeError: it is not a positive number with one of `units`.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", text)
    factor = match and {unit.lower(): value for unit, value in units.items()}.get(match[2].lower())
    if not match or not factor or not float(match[1]):
        names = ", ".join(unit for unit in units if unit)
        raise RecipeError(f"{option}: expected a positive number with one of {names}, got {text!r}")
    return float(match[1]) * factor


def show(report: CompressReport) -> None:
    """Kinds of layers in a table, and the whole in a line."""
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
        f"{report.sparsity:.1%} of the linear weights are zero, {report.bits:.2f} bits a weight ({report.seconds:.1f} s)",
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

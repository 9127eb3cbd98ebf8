"""aerogel distill."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from aerogel.commands.console import console


def run(source: str, out: Path, files: list[Path], teacher: str | None, resume: bool, options: dict[str, Any]) -> None:
    from aerogel.train import Options, distill
    from aerogel.train.saving import check_out
    from aerogel.train.texts import read_texts

    chosen = given(options)
    Options(**chosen)  # contradictions are found before an hour of work
    texts = read_texts(files)
    start = None
    if chosen.get("sparsity") != 0 and "stages" not in chosen:
        check_out(out)
        start = out.with_name(out.name + ".start")
        pruned_at_once(source, start, files, chosen, again=not resume)
        teacher, chosen = teacher or source, chosen | {"sparsity": 0.0}
        chosen.pop("pattern", None)
    report = distill(start or source, out, texts, teacher, Options(**chosen), resume=resume, report=say)
    if start is not None:
        shutil.rmtree(start)
    show(report)


def pruned_at_once(source: str, start: Path, files: list[Path], options: dict[str, Any], again: bool) -> None:
    """Writes what training starts from to the folder `start`: pruned once, fitted to the texts, in float32."""
    from aerogel.compression import compress

    if start.exists() and not again:
        return
    began = time.monotonic()
    report = compress(
        source,
        start,
        options.get("sparsity"),
        options.get("pattern"),
        "none",
        options.get("threads"),
        calibrate=[str(file) for file in files],
    )
    say(f"pruned to {report.sparsity:.1%}, fitted to the texts, in {time.monotonic() - began:.0f} s; now it learns")


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The flags that were used; `quant` none is no scheme."""
    chosen = {name: value for name, value in options.items() if value is not None}
    if chosen.get("quant") == "none":
        chosen["quant"] = None
    return chosen


def show(report: Any) -> None:
    """The last line."""
    console.print(
        f"{report.path}: {report.steps} steps, {report.tokens} tokens, {report.sparsity:.1%} of the linear weights are "
        f"zero ({report.seconds / 60:.1f} min). Pack it: aerogel compress {report.path} -o SMALL --sparsity 0",
        markup=False,
        soft_wrap=True,
    )


def say(line: str) -> None:
    """A line of progress."""
    console.print(line, markup=False, soft_wrap=True)

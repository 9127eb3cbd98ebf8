"""aerogel distill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aerogel.cli.console import console


def run(source: str, out: Path, files: list[Path], teacher: str | None, resume: bool, options: dict[str, Any]) -> None:
    from aerogel.train import Options, distill
    from aerogel.train.texts import read_texts

    report = distill(source, out, read_texts(files), teacher, Options(**given(options)), resume=resume, report=say)
    show(report)


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

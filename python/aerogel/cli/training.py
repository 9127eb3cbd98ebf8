"""What `distill` and `finetune` share beside their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aerogel.cli.console import say

if TYPE_CHECKING:
    from aerogel.train import TrainReport


def given(**options: Any) -> dict[str, Any]:
    """The options that were used; `quant` none is no scheme."""
    chosen = {name: value for name, value in options.items() if value is not None}
    if chosen.get("quant") == "none":
        chosen["quant"] = None
    return chosen


def rate(text: str | None) -> float | str | None:
    """--lr, a number where it is one; what else it may be `Options` checks."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def show(report: TrainReport) -> None:
    """The last line."""
    if not report.finished:
        say(
            f"{report.steps} steps, {report.tokens} tokens in {report.seconds / 60:.1f} min so far: {report.path} has them. "
            "Go on with the same command and --resume"
        )
        return
    say(
        f"{report.path}: {report.steps} steps, {report.tokens} tokens, {report.sparsity:.1%} of the linear weights are "
        f"zero ({report.seconds / 60:.1f} min). Pack it: aerogel compress {report.path} -o SMALL"
    )

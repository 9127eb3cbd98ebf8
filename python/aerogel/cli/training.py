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


def show(report: TrainReport) -> None:
    """The last line."""
    say(
        f"{report.path}: {report.steps} steps, {report.tokens} tokens, {report.sparsity:.1%} of the linear weights are "
        f"zero ({report.seconds / 60:.1f} min). Pack it: aerogel compress {report.path} -o SMALL"
    )

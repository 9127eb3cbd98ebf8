"""README.md of a packed model: what was done to it, and what it kept, for whoever finds the folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aerogel._util.units import megabytes
from aerogel._util.version import __version__
from aerogel.checkpoint.card import write_signed
from aerogel.evaluate.task import AGREEMENT

if TYPE_CHECKING:
    from aerogel.compression.check import Check
    from aerogel.compression.report import CompressReport
    from aerogel.evaluate import Estimate


def write_card(report: CompressReport, source: str, speed: str) -> Path:
    """Writes the card into the model's folder; `speed` says how fast it is, or how that is measured."""
    return write_signed(Path(report.path), card(report, source, speed))


def card(report: CompressReport, source: str, speed: str) -> str:
    """The card as Markdown."""
    recipe = report.recipe
    prune, quantize, calibration = recipe["prune"], recipe["quantize"], recipe["calibration"]
    name = Path(source).name or source
    lines = [
        "---",
        "library_name: aerogel",
        f"tags: [aerogel, {'pruned, ' if report.sparsity > 0.1 else ''}quantized]",
        "---",
        "",
        f"# {name}, compressed",
        "",
        f"Made of `{name}` by aerogel {__version__}: {megabytes(report.file_bytes)}, "
        f"{report.dense_bytes / report.file_bytes:.1f} times smaller than in float32; {report.sparsity:.1%} of the linear "
        f"weights are zero, {report.bits:.2f} bits a weight.",
        "",
        "```python",
        "import aerogel",
        "",
        'model = aerogel.load("path/to/this/folder")',
        "```",
        "",
        "## What was done",
        "",
        f"- linear weights: `{quantize['weights']}`",
    ]
    if any((prune["sparsity"], prune["layers"], prune["threshold"])):
        lines.append(f"- pruning: {prune['method']}, pattern {prune['pattern']}, budget {prune['budget']}")
    texts = ", ".join(f"`{Path(file).name}`" for file in calibration["files"])
    lines.append(f"- calibrated on: {texts or 'nothing'}")
    lines += [f"- {note}" for note in report.notes]
    lines.append("")
    if report.check is not None:
        lines += _kept(report.check)
    lines += ["## How fast", "", speed, ""]
    lines += ["The whole recipe is in `config.json`, under `quantization_config`.", ""]
    return "\n".join(lines)


def _kept(check: Check) -> list[str]:
    """The table of the check."""
    figures = list(check.worst.figures)
    lines = [
        "## What it kept",
        "",
        "Beside its source, on texts that calibration kept aside; the worst domain first. *Seen* are domains of which other",
        "texts were calibrated on.",
        "",
        "| domain | seen | " + " | ".join(AGREEMENT.get(figure, figure) for figure in figures) + " |",
        "|---|---|" + "--:|" * len(figures),
    ]
    for domain in check.domains:
        cells = [_interval(domain.figures[figure]) for figure in figures]
        lines.append(f"| {domain.name} | {'yes' if domain.seen else 'no'} | " + " | ".join(cells) + " |")
    lines.append("")
    if check.shares_index is not None:
        can = "can" if check.shares_index else "cannot"
        lines += [f"Embeddings of both models {can} share a search index.", ""]
    lines += [f"{warning}." for warning in check.warnings]
    return [*lines, ""] if check.warnings else lines


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"

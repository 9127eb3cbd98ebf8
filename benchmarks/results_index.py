"""docs/results.md: the CPUs that were measured, side by side, from docs/results/*.json.

python benchmarks/results_index.py [docs]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HEAD = """# Results

One page a CPU, each of one run of `benchmarks/results.py` there: the kernels by sparsity, a real encoder and a real language
model beside other engines, CSR, and how the cost grows. Speed-ups are over aerogel's own *dense int8* of the same shape, in
the same run. Figures of different rows were taken on different days, so compare ratios.
"""
SPARSITIES = ("0.5", "0.8", "0.9")
SHAPES = ("768x768", "3072x768")
CASES = ("1x128", "16x128")


def write(docs: Path) -> None:
    """Writes the index from what is there."""
    pages = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((docs / "results").glob("*.json"))]
    parts = [HEAD, _kernels(pages), _encoders(pages), _decoders(pages)]
    (docs / "results.md").write_text("\n".join(part for part in parts if part), encoding="utf-8")


def _link(page: dict[str, Any]) -> str:
    name, threads = page["name"], page["threads"]
    return f"[{name}](results/{name}.md) | {page['isa']} | {threads}{', quick' if page['quick'] else ''}"


def _kernels(pages: list[dict[str, Any]]) -> str:
    """The fastest sparse format over the dense one, one thread."""
    lines = [
        "## One linear layer, 128 tokens, one thread: the fastest format for unstructured zeros\n",
        "| CPU | ISA | threads | " + " | ".join(f"{n}, {float(s):.0%}" for n in SHAPES for s in SPARSITIES) + " |",
        "|---|---|---" + "|--:" * (len(SHAPES) * len(SPARSITIES)) + "|",
    ]
    for page in pages:
        found = page["kernels"].get("128", {})
        gains = [found.get(shape, {}).get(sparsity) for shape in SHAPES for sparsity in SPARSITIES]
        lines.append(f"| {_link(page)} | " + " | ".join("" if g is None else f"{g:.2f}" for g in gains) + " |")
    return "\n".join(lines) + "\n"


def _encoders(pages: list[dict[str, Any]]) -> str:
    lines = [
        "## all-MiniLM-L6-v2, ms\n",
        "| CPU | ISA | threads | tokens | dense int8 | 80 % | 90 % | gain at 80, 90 % | fastest other engine |",
        "|---|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for page in pages:
        for case in CASES:
            if (found := page.get("encoder", {}).get(case)) is None:
                continue
            own = [found[name] for name in ("dense int8", "sparse int8 80%", "sparse int8 90%")]
            others = {name: ms for name, ms in found.items() if not name.startswith(("dense", "sparse"))}
            best = min(others, key=lambda name: others[name], default="")
            gains = ", ".join(f"{own[0] / ms:.2f}x" for ms in own[1:])
            cells = [*(f"{ms:.2f}" for ms in own), gains, f"{best} {others[best]:.2f}" if best else ""]
            lines.append(f"| {_link(page)} | {case} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n" if len(lines) > 3 else ""


def _decoders(pages: list[dict[str, Any]]) -> str:
    """Milliseconds of the cases of a language model, in int8, beside the fastest peer."""
    lines = [
        "## SmolLM2-135M, int8, ms\n",
        "| CPU | ISA | threads | | aerogel | fastest other engine |",
        "|---|---|---|---|--:|--:|",
    ]
    for page in pages:
        for case, found in page.get("decoder", {}).items():
            others = {name: ms for name, ms in found.items() if not name.startswith(("dense", "sparse"))}
            best = min(others, key=lambda name: others[name], default="")
            lines.append(
                f"| {_link(page)} | {case} | {found['dense int8']:.0f} | {f'{best} {others[best]:.0f}' if best else ''} |"
            )
    return "\n".join(lines) + "\n" if len(lines) > 3 else ""


if __name__ == "__main__":
    write(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent.parent / "docs")

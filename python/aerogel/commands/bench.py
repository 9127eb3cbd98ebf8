"""aerogel bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from aerogel.bench import SHAPES, bench
from aerogel.commands.console import megabytes, progress_bar, results


def run(folder: str, dense: str | None, json_file: Path | None, threads: int | None) -> None:
    with progress_bar("Measuring") as progress:
        result = bench(folder, dense, threads, progress)
    show(result)
    write_json(json_file, result)


def show(result: dict[str, Any]) -> None:
    """Prints the variants side by side."""
    variants = result["variants"]
    table = Table("", *[v["name"] for v in variants], box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("size on disk", *[megabytes(v["disk_bytes"]) for v in variants])
    table.add_row("resident memory", *[megabytes(v["resident_bytes"]) for v in variants])
    table.add_row("load time", *[f"{v['load_ms']:.0f} ms" for v in variants])
    for shape in SHAPES:
        if shape != "16x128":
            table.add_row(f"latency, {shape} tokens", *[f"{v['latency_ms'][shape]:.2f} ms" for v in variants])
    table.add_row("sentences/s, 16x128", *[f"{v['sentences_per_s']:.0f}" for v in variants])
    if variants[0]["decode_tokens_per_s"] is not None:
        table.add_row("decode, tokens/s", *[f"{v['decode_tokens_per_s']:.1f}" for v in variants])
    table.add_row(f"cosine to {variants[0]['name']}", *[f"{v['cosine_mean']:.4f}" for v in variants])
    out = results()
    out.print(table)
    out.print(f"[dim]{result['cpu']}, {result['isa']}, {result['threads']} threads; medians of interleaved runs[/]")


def write_json(file: Path | None, result: dict[str, Any]) -> None:
    """Writes the figures, if a file was asked for."""
    if file is not None:
        file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")

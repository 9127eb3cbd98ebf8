"""The figures of a run as text tables, Markdown, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aerogel._util.files import write_text
from aerogel._util.units import megabytes, milliseconds

#: (heading, rows of cells): the first row is that of the columns' names.
Block = tuple[str, list[list[str]]]


def blocks(result: dict[str, Any]) -> Iterator[Block]:
    """What each variant costs, then one table for each case."""
    rows = [["", "zeros", "size on disk", "load time", "memory", "peak memory", "cosine to fp32", "worst"]]
    for v in result["variants"]:
        rows.append(
            [
                v["name"],
                f"{v['sparsity']:.0%}" if "sparsity" in v else "",
                megabytes(v["disk_bytes"]),
                f"{v['load_ms']:.0f} ms",
                megabytes(v["resident_bytes"]),
                megabytes(v["peak_bytes"]),
                f"{v['cosine_mean']:.4f}",
                f"{v['cosine_min']:.4f}",
            ]
        )
    yield result["target"] or "variants", rows
    for case in cases(result):
        rows = [["", "median", "min", "quartiles", "x dense int8", "tokens/s", "GMAC/s", "of peak"]]
        streamed = any("gbs" in v["latency_ms"].get(case, {}) for v in result["variants"])
        if streamed:
            rows[0] += ["GB/s", "of reads"]
        for v in result["variants"]:
            figures = v["latency_ms"].get(case)
            if figures is None:
                continue
            row = [
                v["name"],
                milliseconds(figures["median"]),
                milliseconds(figures["min"]),
                f"{milliseconds(figures['q1'])} - {milliseconds(figures['q3'])}",
                f"{figures['speedup']:.2f}" if "speedup" in figures else "",
                f"{figures['tokens_per_s']:,.0f}",
                f"{figures['gmacs']:.1f}",
                f"{figures['share']:.0%}",
            ]
            if streamed:
                row += [f"{figures['gbs']:.1f}", f"{figures['gbs_share']:.0%} {figures['from'].upper()}"]
            rows.append(row)
        yield f"{case} tokens, ms", rows


def cases(result: dict[str, Any]) -> list[str]:
    """The names of the cases, in their order."""
    return list(dict.fromkeys(case for v in result["variants"] for case in v["latency_ms"]))


def notes(result: dict[str, Any]) -> list[str]:
    """What must be said with the figures."""
    lines = list(result["skipped"])
    noise = result["noise"]
    if noise["warning"]:
        lines.append(noise["warning"])
    elif noise["disturbed"]:
        lines.append(
            f"{noise['disturbed']} of {noise['turns']} turns were disturbed and left out where enough remained"
        )
    sparse = [v for v in result["variants"] if v["name"] == "sparse" and v.get("sparsity", 1) < 0.5]
    if sparse:
        lines.append(f"only {sparse[0]['sparsity']:.0%} of the weights are zero: there is little to skip")
    return lines


def markdown(result: dict[str, Any]) -> str:
    """The same tables for a page."""
    parts = []
    for heading, rows in blocks(result):
        head, *body = rows
        lines = [f"**{heading}**", "", "| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in body]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def write_csv(file: Path, result: dict[str, Any]) -> None:
    """One row a variant and case."""
    whole: tuple[str, ...] = (
        "name",
        "engine",
        "version",
        "precision",
        "sparsity",
        "disk_bytes",
        "load_ms",
        "resident_bytes",
        "peak_bytes",
    )
    whole += ("cosine_mean", "cosine_min")
    keys: tuple[str, ...] = (
        "median",
        "min",
        "q1",
        "q3",
        "calls",
        "turns",
        "disturbed",
        "speedup",
        "tokens_per_s",
        "gmacs",
        "share",
    )
    keys += ("gbs", "gbs_share")
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow([*whole, "case", *(f"{key}_ms" if key in ("median", "min", "q1", "q3") else key for key in keys)])
    for v in result["variants"]:
        for case, figures in v["latency_ms"].items():
            writer.writerow([*(v.get(key, "") for key in whole), case, *(figures.get(key, "") for key in keys)])
    write_text(file, out.getvalue())

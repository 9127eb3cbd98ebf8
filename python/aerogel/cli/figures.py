"""The figures of `aerogel bench` as tables."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from aerogel.cli.console import console, results


def show(result: dict[str, Any]) -> None:
    """Prints the variants side by side."""
    from aerogel.bench.limits import limits_line
    from aerogel.bench.tables import blocks, notes

    out = results()
    here = result["machine"]
    out.print(f"{here['cpu']}, {here['isa']}; at most, measured with {limits_line(here['limits'])}", soft_wrap=True)
    for heading, rows in blocks(result):
        table = Table(*rows[0], box=None, pad_edge=False, title=heading, title_justify="left", title_style="bold")
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows[1:]:
            table.add_row(*row)
        out.print()
        out.print(table)
    out.print()
    out.print(f"[dim]Medians of {result['rounds']} interleaved rounds, {result['threads']} threads.[/]")
    for line in notes(result):
        console.print(line, style="yellow", soft_wrap=True, markup=False)

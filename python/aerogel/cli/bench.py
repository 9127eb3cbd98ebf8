"""aerogel bench."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from aerogel.bench import LINEAR_TOKENS, ROUNDS, Peers, bench_linear, bench_model, machine
from aerogel.bench.limits import limits_line
from aerogel.bench.report import blocks, notes, write_csv
from aerogel.cli.console import check_outputs, console, progress_bar, results
from aerogel.errors import AerogelError

SHAPE = re.compile(r"(\d+)[x×](\d+)")
SPARSITIES = (0.5, 0.8, 0.9)
LARGEST = 1 << 16


@dataclass
class Options:
    """The flags of the command; lists are None unless given."""

    dense: str | None = None
    sparsities: Sequence[float] | None = None
    batches: Sequence[int] | None = None
    lengths: Sequence[int] | None = None
    prompts: Sequence[int] | None = None
    news: Sequence[int] | None = None
    threads: int | None = None
    rounds: int = ROUNDS
    peers: str = "auto"
    pythons: dict[str, str] = field(default_factory=dict)
    json_file: Path | None = None
    csv_file: Path | None = None
    plot_file: Path | None = None


def run(target: str, options: Options) -> None:
    if options.plot_file is not None:  # before minutes of measuring, not after
        from aerogel.bench import plot

        plot.check(options.plot_file)
    check_outputs(options.json_file, options.csv_file, options.plot_file)
    peers = Peers(options.peers, options.pythons)
    shape = shape_of(target)
    with progress_bar("Measuring") as progress:
        if shape is None:
            if options.sparsities is not None:
                raise AerogelError(f"--sparsity goes with a shape, such as 768x768; {target} has the zeros that it has")
            result = bench_model(
                target,
                options.dense,
                batches=options.batches,
                lengths=options.lengths,
                prompts=options.prompts,
                news=options.news,
                threads=options.threads,
                rounds=options.rounds,
                peers=peers,
                progress=progress,
            )
        else:
            for name, value in (("--dense", options.dense), ("--prompt", options.prompts), ("--new", options.news)):
                if value is not None:
                    raise AerogelError(f"{name} goes with a model, not with a shape")
            tokens = None
            if options.batches is not None or options.lengths is not None:
                tokens = sorted({b * s for b in options.batches or (1,) for s in options.lengths or (1,)})
            result = bench_linear(
                *shape,
                options.sparsities or SPARSITIES,
                tokens=tokens or LINEAR_TOKENS,
                threads=options.threads,
                rounds=options.rounds,
                peers=peers,
                progress=progress,
            )
    show(result)
    write_json(options.json_file, result)
    if options.csv_file is not None:
        write_csv(options.csv_file, result)
    if options.plot_file is not None:
        from aerogel.bench import plot

        plot.plot(options.plot_file, result)


def shape_of(target: str) -> tuple[int, int] | None:
    """(N, K) of a target such as 768x768; None for what is a path or a model's name."""
    found = SHAPE.fullmatch(target)
    if found is None or Path(target).exists():
        if re.fullmatch(r"[-\d.]*\d[x×*,][-\d.x×]*", target) and not Path(target).exists():
            raise AerogelError(f"{target}: expected a shape NxK, such as 3072x768")
        return None
    n, k = int(found[1]), int(found[2])
    if not (1 <= n <= LARGEST and 1 <= k <= LARGEST) or n * k > 1 << 28:
        raise AerogelError(f"{target}: expected N and K from 1 to {LARGEST}, at most {1 << 28} weights")
    return n, k


def show_limits(threads: int | None) -> None:
    """Prints what this machine can do at most."""
    here = machine(threads)
    results().print(f"{here['cpu']}, {here['isa']}")
    for line in dict.fromkeys((limits_line(here["limits_1"]), limits_line(here["limits"]))):
        results().print(line)


def show(result: dict[str, Any]) -> None:
    """Prints the variants side by side."""
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


def write_json(file: Path | None, result: dict[str, Any]) -> None:
    """Writes the figures, if a file was asked for."""
    if file is not None:
        file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")

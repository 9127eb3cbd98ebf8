"""aerogel demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from aerogel.cli.compressed import show_check
from aerogel.cli.console import check_outputs, console, progress_bar, results, write_json
from aerogel.cli.figures import show
from aerogel.cli.options import JsonFile, Overwrite, Threads

if TYPE_CHECKING:
    from aerogel.bench.demo import Hit


def command(
    model: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="An embedding model to use. \\[default: all-MiniLM-L6-v2, downloaded]"),
    ] = None,
    json_file: JsonFile = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
) -> None:
    """Compress a sentence embedding model, search with it, and compare it with its dense forms."""
    import tempfile

    from aerogel.bench import bench_variants
    from aerogel.bench.demo import TOKENS, prepare, searches

    check_outputs(json_file, overwrite=overwrite)
    out = results()
    source = model or _sample_model()
    with tempfile.TemporaryDirectory(prefix="aerogel-demo-") as work:
        with progress_bar(f"Compressing {Path(source).name}") as progress:
            variants, check = prepare(source, Path(work), threads, progress)
        found = searches(variants, threads)
        _show_hits(out, found)
        _show_agreement(out, found)
        with progress_bar("Measuring") as progress:
            result = bench_variants(variants, threads=threads, progress=progress, target=Path(source).name)
    out.print()
    show(result)
    out.print(
        f"[dim]The sparse model was calibrated on {TOKENS:,} tokens of the general mix that the package carries, once and "
        "without training; none of the sentences above is in it.[/]"
    )
    if check is not None:
        out.print()
        show_check(check)
        result["check"] = check.as_dict()
    result["searches"] = {name: [[vars(hit) for hit in hits] for hits in lists] for name, lists in found.items()}
    write_json(json_file, result)


def _sample_model() -> str:
    from aerogel.checkpoint.samples import fetch

    return str(fetch("all-MiniLM-L6-v2", progress=lambda line: console.print(line)))


def _show_hits(out: Console, found: dict[str, list[list[Hit]]]) -> None:
    from aerogel.bench import sentences
    from aerogel.bench.demo import QUERIES

    names = list(found)
    count = sum(map(len, sentences().values()))
    table = Table("query", f"nearest of {count} sentences ({names[1]})", "cosine", *names[2:], box=None, pad_edge=False)
    for i, query in enumerate(QUERIES):
        for rank, hit in enumerate(found[names[1]][i]):
            others = [_rank(found[name][i], hit) for name in names[2:]]
            table.add_row(query if rank == 0 else "", hit.sentence, f"{hit.cosine:.2f}", *others)
    out.print(table)


def _show_agreement(out: Console, found: dict[str, list[list[Hit]]]) -> None:
    """How many of the dense model's sentences each other model finds."""
    from aerogel.bench.demo import agreement

    dense, *others = found
    for name in others:
        first, both, all_of = agreement(found[name], found[dense])
        out.print(
            f"{name}: the same first sentence as {dense} for {first} of {len(found[dense])} queries, "
            f"{both} of its {all_of} sentences",
            soft_wrap=True,
        )


def _rank(hits: list[Hit], hit: Hit) -> str:
    """Where another model puts the same sentence."""
    ranks = [rank for rank, other in enumerate(hits, 1) if other.sentence == hit.sentence]
    return f"#{ranks[0]}" if ranks else "-"

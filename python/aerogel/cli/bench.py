"""aerogel bench."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from aerogel.cli.console import check_outputs, progress_bar, results, write_json
from aerogel.cli.figures import show
from aerogel.cli.options import FILES, JsonFile, KvCache, Overwrite, Threads, counts, fractions, paths_by_name
from aerogel.errors import AerogelError

SHAPE = re.compile(r"(\d+)[x×](\d+)")
SPARSITIES = (0.5, 0.8, 0.9)
LARGEST = 1 << 16
#: Panels of `--help`.
INPUT, OTHERS = "Input", "Other engines"


def command(
    target: Annotated[
        str | None,
        typer.Argument(metavar="DIR|NxK", help="A packed model, any model that aerogel reads, or a layer: 768x768."),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option("--batch", "-b", metavar="LIST", help="Encoder: sequences, such as 1,16.", rich_help_panel=INPUT),
    ] = None,
    seq: Annotated[
        str | None,
        typer.Option(
            "--seq", "-s", metavar="LIST", help="Encoder: tokens each; with NxK: tokens.", rich_help_panel=INPUT
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            "-p",
            metavar="LIST",
            help="Language model: tokens of a prompt. \\[default: 128]",
            rich_help_panel=INPUT,
        ),
    ] = None,
    new: Annotated[
        str | None,
        typer.Option(
            "--new",
            "-n",
            metavar="LIST",
            help="Language model: tokens generated. \\[default: 32]",
            rich_help_panel=INPUT,
        ),
    ] = None,
    sparsity: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="With NxK: fractions of weights to remove. \\[default: 0.5,0.8,0.9]",
            rich_help_panel=INPUT,
        ),
    ] = None,
    dense: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE", help="The uncompressed model to compare with. \\[default: DIR's weights, unpacked]"
        ),
    ] = None,
    quant: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME",
            help="What a model that is not packed is measured in, GGUF files too: int8:g64, int4:g64, none and so on. "
            "\\[default: int8]",
        ),
    ] = None,
    kv_cache: KvCache = None,
    peers: Annotated[
        str,
        typer.Option(
            metavar="none|auto|NAME,...",
            help="Other engines; NAME or NAME:int8. auto: the installed ones.",
            rich_help_panel=OTHERS,
        ),
    ] = "auto",
    python: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="The Python interpreter of another environment, in which engine NAME is installed.",
            rich_help_panel=OTHERS,
        ),
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", "-r", min=1, help="Interleaved rounds per case.")] = 7,
    threads: Threads = None,
    limits: Annotated[bool, typer.Option("--limits", help="Only measure the peak rates of this machine.")] = False,
    json_file: JsonFile = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the figures as CSV.", rich_help_panel=FILES)
    ] = None,
    plot_file: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE.png", help="Plot the speed-ups (needs matplotlib).", rich_help_panel=FILES
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure a model or one layer: dense fp32, dense int8, sparse, and the other engines that are installed."""
    if limits:
        show_limits(threads)
        return
    if target is None:
        raise typer.BadParameter("expected a model's folder, or a shape such as 768x768", param_hint="DIR|NxK")
    lists = {"batches": counts(batch), "lengths": counts(seq), "prompts": counts(prompt), "news": counts(new)}
    sparsities, pythons = fractions(sparsity), paths_by_name(python)
    from aerogel.bench import Peers
    from aerogel.bench.plot import check, plot
    from aerogel.bench.tables import write_csv

    if plot_file is not None:  # before minutes of measuring, not after
        check(plot_file)
    check_outputs(json_file, csv_file, plot_file, overwrite=overwrite)
    common = {"threads": threads, "rounds": rounds, "peers": Peers(peers, pythons)}
    shape = shape_of(target)
    if shape is None:
        result = _measure_model(target, dense, quant, kv_cache, sparsities, lists, common)
    else:
        result = _measure_layer(shape, dense, quant, kv_cache, sparsities, lists, common)
    show(result)
    write_json(json_file, result)
    if csv_file is not None:
        write_csv(csv_file, result)
    if plot_file is not None:
        plot(plot_file, result)


def _measure_model(
    target: str,
    dense: str | None,
    quant: str | None,
    kv_cache: str | None,
    sparsities: list[float] | None,
    lists: dict[str, list[int] | None],
    common: dict[str, Any],
) -> dict[str, Any]:
    from aerogel.bench import bench_model

    if sparsities is not None:
        raise AerogelError(f"--sparsity goes with a shape, such as 768x768; {target} has the zeros that it has")
    with progress_bar("Measuring") as progress:
        return bench_model(
            target,
            dense,
            batches=lists["batches"],
            lengths=lists["lengths"],
            prompts=lists["prompts"],
            news=lists["news"],
            quant=quant,
            kv_cache=kv_cache,
            **common,
            progress=progress,
        )


def _measure_layer(
    shape: tuple[int, int],
    dense: str | None,
    quant: str | None,
    kv_cache: str | None,
    sparsities: list[float] | None,
    lists: dict[str, list[int] | None],
    common: dict[str, Any],
) -> dict[str, Any]:
    from aerogel.bench import LINEAR_TOKENS, bench_linear

    for name, value in (
        ("--dense", dense),
        ("--quant", quant),
        ("--kv-cache", kv_cache),
        ("--prompt", lists["prompts"]),
        ("--new", lists["news"]),
    ):
        if value is not None:
            raise AerogelError(f"{name} goes with a model, not with a shape")
    batches, lengths = lists["batches"], lists["lengths"]
    tokens = None
    if batches is not None or lengths is not None:
        tokens = sorted({b * s for b in batches or (1,) for s in lengths or (1,)})
    with progress_bar("Measuring") as progress:
        return bench_linear(
            *shape, sparsities or SPARSITIES, tokens=tokens or LINEAR_TOKENS, **common, progress=progress
        )


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
    from aerogel.bench import machine
    from aerogel.bench.limits import limits_line

    here = machine(threads)
    results().print(f"{here['cpu']}, {here['isa']}")
    for line in dict.fromkeys((limits_line(here["limits_1"]), limits_line(here["limits"]))):
        results().print(line)

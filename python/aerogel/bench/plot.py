"""Plots of a run. matplotlib comes with `pip install aerogel[bench]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aerogel._util.files import writing
from aerogel.bench.tables import cases
from aerogel.errors import AerogelError

#: Aerogel's own variants, and everyone else.
OWN, OTHERS, BASE = "#1b6ca8", "#b8b8b8", "#5a5a5a"


def require() -> Any:
    """matplotlib.pyplot, drawing to files only; an error that says what to do where it is missing."""
    try:
        import matplotlib
    except ImportError:
        raise AerogelError("plots need matplotlib: pip install 'aerogel[bench]' (or matplotlib)") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def check(file: Path) -> None:
    """Whether such a file can be drawn: before the work, not after it."""
    require()
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    ending = file.suffix[1:].lower()
    if ending and ending not in known:  # without one it becomes a PNG
        raise AerogelError(f"{file}: expected a picture's name such as {file.stem}.png, not .{ending}")


def plot(file: Path, result: dict[str, Any]) -> None:
    """Speed-up over dense int8 of every variant, one panel a case."""
    plt = require()
    names = cases(result)
    height = 1.2 + 0.28 * len(result["variants"])
    figure, axes = plt.subplots(1, len(names), figsize=(4.6 * len(names), height), squeeze=False, sharey=True)
    for axis, case in zip(axes[0], names):
        rows = [v for v in result["variants"] if case in v["latency_ms"]]
        values = [v["latency_ms"][case].get("speedup", 0.0) for v in rows]
        colours = [_colour(v) for v in rows]
        axis.barh([v["name"] for v in rows], values, color=colours)
        axis.axvline(1, color=BASE, linewidth=0.8)
        for i, value in enumerate(values):
            axis.text(value, i, f" {value:.2f}", va="center", fontsize=8)
        axis.set_title(f"{case} tokens", fontsize=10)
        axis.set_xlabel("speed-up over dense int8")
        axis.set_xlim(0, 1.15 * max(values))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].invert_yaxis()  # shared: once for all
    _save(plt, figure, file, caption(result["machine"], Path(result["target"]).name))


def lines(
    file: Path,
    title: str,
    xlabel: str,
    ylabel: str,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    note: str,
    one: bool = False,
    log: bool = False,
) -> None:
    """Curves over one axis; `one` draws the line at 1, where nothing is gained.

    Names of two parts, "format · shape", get a colour by the first and a line style by the second.
    """
    plt = require()
    figure, axis = plt.subplots(figsize=(7, 4.2) if len(curves) <= 10 else (9.5, 4.6))
    firsts = list(dict.fromkeys(name.split(" · ")[0] for name in curves))
    seconds = list(dict.fromkeys(name.partition(" · ")[2] for name in curves))
    for name, (x, y) in curves.items():
        first, _, second = name.partition(" · ")
        style = ("-", "--", "-.", ":")[seconds.index(second) % 4]
        axis.plot(x, y, style, color=f"C{firsts.index(first)}", marker="o", markersize=3, linewidth=1.3, label=name)
    if one:
        axis.axhline(1, color=BASE, linewidth=0.8)
    if log:
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if len(curves) > 10:
        axis.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    else:
        axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    _save(plt, figure, file, note)


def caption(machine: Mapping[str, Any], what: str) -> str:
    """The line below every plot: model, CPU, instruction set, version, date."""
    return (
        f"{what} · {machine['cpu']}, {machine['isa']}, {machine['threads']} threads · "
        f"aerogel {machine['aerogel']} · {machine['when'][:10]}"
    )


def _colour(variant: Mapping[str, Any]) -> str:
    if variant["engine"] != "aerogel":
        return OTHERS
    return BASE if variant["name"].startswith("dense") else OWN


def _save(plt: Any, figure: Any, file: Path, note: str) -> None:
    figure.text(0.01, 0.005, note, fontsize=7, color=BASE)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    try:
        with writing(file) as out:
            figure.savefig(out, dpi=130, format=file.suffix[1:].lower() or "png")
    except ValueError as error:  # a suffix that it does not know
        raise AerogelError(f"{file}: {error}") from error
    finally:
        plt.close(figure)

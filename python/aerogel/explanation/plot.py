"""A picture of an explanation: time per layer, sparsity per layer, and where in each layer the weights are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerogel._util.files import writing
from aerogel.bench.plot import require
from aerogel.engine.model import load

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

    from aerogel._core import PackedWeight
    from aerogel.explanation import Explanation

#: Cells of a layer's map, at most, along each side.
CELLS = 48
#: Maps in the picture, at most: the largest layers' first ones.
MAPS = 24


def draw(found: Explanation, folder: str | os.PathLike[str], file: str | os.PathLike[str]) -> None:
    """Writes the picture; its kind goes by the file's ending."""
    require()
    from matplotlib.figure import Figure

    layers = found.layers
    shown = _sample(len(layers), MAPS)
    columns = 8
    map_rows = -(-len(shown) // columns)
    height = max(3.0, 0.17 * len(layers)) + 1.5
    figure = Figure(figsize=(13, height + 1.5 * map_rows), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[height, 1.5 * map_rows]).ravel()
    _bars(top, found)

    model = load(folder, format="dense")
    axes = bottom.subplots(map_rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    maps = [density_map(model.packed_weight(layers[i].name)) for i in shown]
    most = max([float(np.quantile(each, 0.99)) for each in maps] + [0.01])  # so that sparse layers show their grain too
    image = None
    for axis, i, density in zip(axes, shown, maps, strict=False):
        image = axis.imshow(density, cmap="viridis", vmin=0, vmax=most, aspect="auto", interpolation="nearest")
        axis.set_title(layers[i].name, fontsize=6)
    if image is not None:
        bottom.colorbar(image, ax=list(axes), shrink=0.8, label="weights kept")
    bottom.suptitle("where the weights are: outputs down, inputs across", fontsize=9)
    figure.suptitle(
        f"{os.path.basename(os.path.normpath(folder))}: {found.total_ms:.2f} ms, dense {found.dense_total_ms:.2f} ms "
        f"({found.batch} x {found.tokens} tokens, {found.cpu}, {found.isa}, {found.threads} threads)",
        fontsize=11,
    )
    with writing(Path(file)) as out:
        figure.savefig(out, dpi=120, format=Path(file).suffix[1:].lower() or "png")


def _bars(figure: SubFigure, found: Explanation) -> None:
    layers = found.layers
    times, zeros = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    places = np.arange(len(layers))
    times.barh(places, [layer.dense_ms for layer in layers], 0.8, color="0.85", label="dense")
    times.barh(places, [layer.measured_ms for layer in layers], 0.5, color="tab:blue", label="as it runs")
    alone = [(i, layer.predicted_ms) for i, layer in enumerate(layers) if layer.predicted_ms is not None]
    if alone:
        times.plot([ms for _, ms in alone], [i for i, _ in alone], "|", color="tab:orange", label="kernel alone")
    end = len(layers)
    for op, ms in sorted(found.rest_ms.items(), key=lambda pair: -pair[1])[:4]:
        times.barh(end, ms / max(1, _layers_of(found)), 0.8, color="tab:gray")
        times.text(ms / max(1, _layers_of(found)), end, f" {op}, a layer's share", va="center", fontsize=7)
        end += 1
    times.set_yticks(places, [layer.name for layer in layers], fontsize=6)
    times.invert_yaxis()
    times.set_xlabel("milliseconds of a forward pass")
    times.legend(fontsize=8)
    zeros.barh(places, [100 * layer.sparsity for layer in layers], 0.8, color="tab:green", label="zeros")
    wins = [(i, layer.wins_from) for i, layer in enumerate(layers) if layer.wins_from is not None]
    if wins:
        zeros.plot(
            [100 * at for _, at in wins], [i for i, _ in wins], "|", color="black", ms=7, label="sparse wins from here"
        )
    zeros.set_xlim(0, 100)
    zeros.set_xlabel("zeros, %")
    zeros.legend(fontsize=8)


def _layers_of(found: Explanation) -> int:
    """Transformer layers: numbered names."""
    return len({layer.name.split(".")[1] for layer in found.layers if layer.name.startswith("layers.")})


def _sample(count: int, most: int) -> list[int]:
    """At most so many places of `count`, evenly spread."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))


def density_map(weight: PackedWeight) -> np.ndarray:
    """Fraction of weights that are not zero in each cell of a grid over packed weights w[N,K]: [<= CELLS, <= CELLS]."""
    n, k = weight.shape
    edges = np.unique(np.linspace(0, k, min(CELLS, k) + 1).astype(int))
    cells = []
    for i in range(min(CELLS, n)):
        begin, end = i * n // min(CELLS, n), (i + 1) * n // min(CELLS, n)
        rows = range(begin, end, max(1, (end - begin) // 8))  # a few rows show a cell well enough
        there = np.mean([weight.row(row) != 0 for row in rows], axis=0)
        cells.append(np.add.reduceat(there, edges[:-1]) / np.diff(edges))
    return np.array(cells)

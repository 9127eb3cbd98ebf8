"""Kinds of layers that are not measured because a sparser and a denser one of the same shape were."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable

import numpy as np

from aerogel.tuning.choice import ROWS, Times
from aerogel.tuning.layers import GRID, Layer, dense_format, formats_of

#: Neighbours are at most so far away in sparsity.
REACH = 0.1
#: A format counts as decided for or against dense where it is further from it than this.
MARGIN = 0.1


def between(layer: Layer, known: Callable[[Layer], Times | None]) -> Times | None:
    """Times of `layer` from its two neighbours in sparsity, linear in the number of weights that are left.

    None where a neighbour is not known, or where the fastest format is so near to dense that only measuring tells which of
    them is the slower one.
    """
    if layer.pattern != "unstructured":
        return None
    lower = _nearest(layer, [s for s in reversed(GRID) if s < layer.sparsity], known)
    upper = _nearest(layer, [s for s in GRID if s > layer.sparsity], known)
    if lower is None or upper is None:
        return None
    (below, denser), (above, sparser) = lower, upper
    share = (layer.sparsity - below) / (above - below)

    def mixed(low: float, high: float) -> float:
        return (1 - share) * low + share * high

    formats = formats_of(layer)
    times = Times(
        {f: {r: mixed(denser.seconds[f][r], sparser.seconds[f][r]) for r in ROWS} for f in formats},
        {f: round(mixed(denser.nbytes[f], sparser.nbytes[f])) for f in formats},
        denser.tiles,
    )
    return times if _decided(times, dense_format(layer.numbers)) else None


def _nearest(
    layer: Layer, sparsities: Iterable[float], known: Callable[[Layer], Times | None]
) -> tuple[float, Times] | None:
    for sparsity in sparsities:
        if abs(sparsity - layer.sparsity) > REACH + 1e-9:
            return None
        times = known(dataclasses.replace(layer, sparsity=sparsity))
        if times is not None:
            return sparsity, times
    return None


def _decided(times: Times, dense: str) -> bool:
    """Whether every format is clearly faster or clearly slower than dense, at every number of rows."""
    others = [f for f in times.seconds if f != dense]
    return all(abs(math.log(times.seconds[f][r] / times.seconds[dense][r])) > MARGIN for f in others for r in ROWS)


def in_turn(layers: Iterable[Layer]) -> list[Layer]:
    """Kinds of layers in the order in which to measure them: of each shape the ends first, then what lies between."""
    groups: dict[Layer, list[Layer]] = {}
    for layer in dict.fromkeys(layers):
        groups.setdefault(dataclasses.replace(layer, sparsity=0.0), []).append(layer)
    found: list[Layer] = []
    for group in groups.values():
        group.sort(key=lambda layer: layer.sparsity)
        ends = sorted(
            {*np.linspace(0, len(group) - 1, 1 + math.ceil(_span(group) / REACH - 1e-9)).round().astype(int).tolist()}
        )
        found += [group[i] for i in ends] + [layer for i, layer in enumerate(group) if i not in ends]
    return found


def _span(group: list[Layer]) -> float:
    return group[-1].sparsity - group[0].sparsity

"""Which layers keep more bits, where a whole model may have so many a weight: "auto:4.5bits".

Each layer comes with what every scheme for it takes and costs. All start with the smallest; then, step by step, the layer
that gains most for a bit more takes more, as long as the budget lasts: the lower convex hulls of the layers, merged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from aerogel.errors import RecipeError

#: What a name begins with that stands for a budget.
AUTO = "auto"
#: What a layer may get: in kernels for four bits, or for eight.
CHOICES = ("int4:g64:asym", "int4:g32:asym", "int8")
#: The least and the most that CHOICES can make of a model, about.
LEAST, MOST = 4.3, 8.0


def bits_of(name: str) -> float | None:
    """The bits a weight that "auto:4.5bits" allows; None for the name of a scheme.

    Raises:
        RecipeError: it begins with "auto", but has no bits that can be had.
    """
    if name.split(":")[0] != AUTO:
        return None
    found = re.fullmatch(r"auto:([0-9]{1,2}(?:\.[0-9]{1,6})?)(?:bits)?", name)
    if found is None or not LEAST <= float(found[1]) <= MOST:
        raise RecipeError(
            f"quantize.weights: expected auto:B with {LEAST} to {MOST} bits, as auto:4.5bits, got {name!r}"
        )
    return float(found[1])


def share_bits(
    costs: Mapping[str, Mapping[str, float]], sizes: Mapping[str, Mapping[str, float]], budget: float
) -> dict[str, str]:
    """The scheme of each layer.

    Args:
        costs: by layer and scheme: what is lost with it.
        sizes: the same keys: the bits that it takes.
        budget: bits of all layers together. Where even the smallest schemes take more, those are it.
    """
    chosen = {layer: min(of, key=lambda scheme: (of[scheme], costs[layer][scheme])) for layer, of in sizes.items()}
    left = budget - sum(sizes[layer][scheme] for layer, scheme in chosen.items())
    steps = [
        (gain, layer, scheme) for layer, first in chosen.items() for gain, scheme in _hull(layer, first, costs, sizes)
    ]
    closed = set()  # a layer that a step was too large for takes no later one
    for _, layer, scheme in sorted(steps, key=lambda step: -step[0]):
        more = sizes[layer][scheme] - sizes[layer][chosen[layer]]
        if layer in closed or more > left:
            closed.add(layer)
            continue
        chosen[layer] = scheme
        left -= more
    return chosen


def _hull(
    layer: str, first: str, costs: Mapping[str, Mapping[str, float]], sizes: Mapping[str, Mapping[str, float]]
) -> list[tuple[float, str]]:
    """What is gained by a bit more, falling, and the scheme that it leads to."""
    cost, size = costs[layer], sizes[layer]
    found: list[tuple[float, str]] = []
    at = first
    while True:
        gains = {
            s: (cost[at] - cost[s]) / (size[s] - size[at]) for s in size if size[s] > size[at] and cost[s] < cost[at]
        }
        if not gains:
            return found
        at = max(gains, key=lambda s: (gains[s], size[s]))
        found.append((gains[at], at))

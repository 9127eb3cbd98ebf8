"""The search for a sparsity."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from aerogel.compression.recipe import Recipe

#: No target is solved with more than this.
HIGHEST = 0.98
#: A solution may miss its target by this part of it, on the good side.
SLACK = 0.01
#: Attempts to come under a target with the real model after the estimate.
ATTEMPTS = 4


def least(enough: Callable[[float], bool], tight: Callable[[float], bool]) -> float:
    """The least sparsity that is `enough`, to about 0.1 %; early where it is also `tight`. HIGHEST is enough."""
    if enough(0.0):
        return 0.0
    low, high = 0.0, HIGHEST
    while high - low > 1e-3:
        middle = (low + high) / 2
        if enough(middle):
            high = middle
            if tight(middle):
                break
        else:
            low = middle
    return high


def at_sparsity(recipe: Recipe, sparsity: float) -> Recipe:
    """The recipe with this sparsity, whatever it said of it."""
    return dataclasses.replace(recipe, prune=dataclasses.replace(recipe.prune, sparsity=sparsity, threshold=None))

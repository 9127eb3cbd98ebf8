"""Pruning: a method scores weights, a pattern says which of the best scores may stay.

A method is one pure function `(weight, pattern) -> mask`, float32 [N,K] in and bool [N,K] out (True: kept); its input
is not changed and the same input gives the same mask. A new method is one file and one row in METHODS.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aerogel.errors import RecipeError
from aerogel.prune.magnitude import magnitude
from aerogel.prune.pattern import Pattern, Unstructured, Windowed, parse_pattern

__all__ = ["METHODS", "Pattern", "Unstructured", "Windowed", "magnitude", "method", "parse_pattern"]

METHODS: dict[str, Callable[[np.ndarray, Pattern], np.ndarray]] = {"magnitude": magnitude}


def method(name: str) -> Callable[[np.ndarray, Pattern], np.ndarray]:
    """The pruning method called `name`."""
    if name not in METHODS:
        raise RecipeError(f"pruning method {name!r} is unknown, only {', '.join(METHODS)}")
    return METHODS[name]

"""The pruning methods of `aerogel.prune` as stages of a training run call them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from aerogel.prune import Pattern, Unstructured
from aerogel.train.options import Pruner

#: Called with a number of tokens; gives (tokens, gram, largest) of the input of every prunable linear.
Inputs = Callable[[int], Mapping[str, tuple[int, np.ndarray, np.ndarray]]]


def on_the_way(score: np.ndarray, pattern: Pattern, sparsity: float) -> np.ndarray:
    """The mask at a sparsity below the pattern's own: what the pattern keeps, and the best of the rest.

    So the masks of a schedule lie one inside the other and end in the pattern, whatever pattern it is.
    """
    final = pattern.keep(score)
    if sparsity >= pattern.sparsity:
        return final
    return Unstructured(sparsity).keep(np.where(final, np.float32(np.inf), score))


def by_magnitude(pattern: Pattern) -> Pruner:
    """Magnitude pruning towards `pattern`; an unstructured one to whatever sparsity a stage asks for."""

    def prune(name: str, weight: np.ndarray, sparsity: float) -> tuple[np.ndarray, np.ndarray]:
        score = np.abs(weight)
        free = isinstance(pattern, Unstructured)
        mask = Unstructured(sparsity).keep(score) if free else on_the_way(score, pattern, sparsity)
        return np.where(mask, weight, np.float32(0)), mask

    return prune


class Calibrated:
    """A method that needs the statistics of its inputs (wanda, obs): they are collected anew from the student, as it is
    by then, before every stage.

    Args:
        method: `(weight [N,K], Statistics, Pattern) -> Pruned`, as in `aerogel.prune.METHODS`.
        pattern: what the last stage prunes to; those before it are unstructured.
        tokens: how many to collect from.
    """

    def __init__(self, method: Callable[..., Any], pattern: Pattern, tokens: int = 1 << 14) -> None:
        self._method, self._pattern, self._tokens = method, pattern, tokens
        self._inputs: Mapping[str, tuple[int, np.ndarray, np.ndarray]] = {}

    def prepare(self, inputs: Inputs) -> None:
        """Called before every stage."""
        self._inputs = inputs(self._tokens)

    def __call__(self, name: str, weight: np.ndarray, sparsity: float) -> tuple[np.ndarray, np.ndarray]:
        from aerogel.calibrate import Statistics

        last = not isinstance(self._pattern, Unstructured) and sparsity >= self._pattern.sparsity
        pattern = self._pattern if last else Unstructured(sparsity)
        pruned = self._method(weight, Statistics(*self._inputs[name]), pattern)
        return pruned.weight, pruned.mask

"""Sparsity patterns: given a score for every weight, which ones stay."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from aerogel.errors import RecipeError

#: Columns of a window of `Windowed`: what one register of the widest kernels gathers from.
WINDOW = 64


class Pattern(ABC):
    """Which positions may hold a weight."""

    @property
    @abstractmethod
    def sparsity(self) -> float:
        """The fraction of weights that go."""

    @abstractmethod
    def keep(self, score: np.ndarray) -> np.ndarray:
        """The highest scores that the pattern allows, float [N,K] to bool [N,K]; among equals the first in row-major
        order.
        """


@dataclass(frozen=True)
class Unstructured(Pattern):
    """Any positions: exactly round(sparsity * N * K) weights of the matrix go."""

    sparsity: float = 0.8

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity <= 1:  # also refuses NaN
            raise RecipeError(f"sparsity: expected a number from 0 to 1, got {self.sparsity}")

    def __str__(self) -> str:
        return "unstructured"

    def keep(self, score: np.ndarray) -> np.ndarray:
        return _largest(score.reshape(1, -1), score.size - round(self.sparsity * score.size)).reshape(score.shape)


@dataclass(frozen=True)
class Windowed(Pattern):
    """`q` weights stay in each 64 columns of every row ("q:64").

    A last window of r < 64 columns keeps ceil(q * r / 64), so it is never sparser than the others.
    """

    q: int

    def __post_init__(self) -> None:
        if not 1 <= self.q <= WINDOW:
            raise RecipeError(f"pattern: expected 1:{WINDOW} to {WINDOW}:{WINDOW}, got {self.q}:{WINDOW}")

    def __str__(self) -> str:
        return f"{self.q}:{WINDOW}"

    @property
    def sparsity(self) -> float:
        return 1 - self.q / WINDOW

    def keep(self, score: np.ndarray) -> np.ndarray:
        n, k = score.shape
        whole = k - k % WINDOW
        mask = np.empty((n, k), bool)
        mask[:, :whole] = _largest(score[:, :whole].reshape(-1, WINDOW), self.q).reshape(n, whole)
        if whole < k:
            mask[:, whole:] = _largest(score[:, whole:], -(-self.q * (k - whole) // WINDOW))
        return mask


def parse_pattern(text: str, sparsity: float | None = None) -> Pattern:
    """The pattern that `text` names: "unstructured" (sparsity 0.8 unless given) or "Q:64".

    Q:64 has its own sparsity, 1 - Q/64; a different one given besides it is an error.
    """
    if text == "unstructured":
        return Unstructured(0.8 if sparsity is None else sparsity)
    match = re.fullmatch(rf"(\d{{1,3}}):{WINDOW}", text)
    if match is None:
        raise RecipeError(f"pattern: expected unstructured or Q:{WINDOW} (such as 8:{WINDOW}), got {text!r}")
    pattern = Windowed(int(match[1]))
    if sparsity is not None and abs(sparsity - pattern.sparsity) > 1e-6:
        raise RecipeError(f"sparsity: {sparsity} contradicts the pattern {text}, which is {pattern.sparsity:g} sparse")
    return pattern


def _largest(score: np.ndarray, count: int) -> np.ndarray:
    """bool, exactly the `count` largest of each row; among equals the first."""
    width = score.shape[1]
    if count <= 0 or count >= width:
        return np.full(score.shape, count > 0 and width > 0)
    threshold = np.partition(score, width - count, axis=1)[:, width - count, None]
    mask = score > threshold
    short = count - np.count_nonzero(mask, axis=1)  # places left for scores equal to the threshold, at least one
    equal = score == threshold
    for row in np.flatnonzero(np.count_nonzero(equal, axis=1) > short):
        equal[row, np.flatnonzero(equal[row])[short[row] :]] = False
    return mask | equal

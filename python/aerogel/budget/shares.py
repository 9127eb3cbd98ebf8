"""What every budget does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from aerogel._util.checks import number, text
from aerogel.calibrate.statistics import Statistics
from aerogel.errors import DataError, RecipeError
from aerogel.prune.contract import checked_weight


class Budget(ABC):
    """Sees layers one after the other, then shares a sparsity out among them.

    Attributes:
        needs: "nothing", or "gram": `look` wants `Statistics`.
        sizes: elements of the layers seen, by name.
    """

    needs: ClassVar[str] = "nothing"

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}

    def look(self, name: str, weight: np.ndarray, statistics: Statistics | None = None) -> None:
        """Takes in a layer: float32 [N,K], and what calibration saw at its input."""
        weight = checked_weight(weight)
        name = text("layer", name, DataError)
        self.sizes[name] = weight.size
        self._look(name, weight, statistics)

    @abstractmethod
    def _look(self, name: str, weight: np.ndarray, statistics: Statistics | None) -> None: ...

    @abstractmethod
    def share(self, sparsity: float) -> dict[str, float]:
        """The sparsity of each layer seen; over all of them, weighted by size, it is `sparsity`."""


def checked_share(sparsity: float) -> float:
    """The sparsity that is shared out; raises RecipeError if it is none."""
    return number("sparsity", sparsity, 0, 1, RecipeError)


def shift_to_mean(wishes: Mapping[str, float], sizes: Mapping[str, int], sparsity: float) -> dict[str, float]:
    """Wished sparsities, all moved up or down by the same amount and kept in [0, 1], so that their mean is `sparsity`."""
    sparsity = checked_share(sparsity)
    names = list(wishes)
    if not names:
        return {}
    wish = np.array([wishes[name] for name in names])
    size = np.array([sizes[name] for name in names], float)
    low, high = -1.0 - float(wish.max()), 2.0 - float(wish.min())
    for _ in range(100):  # the mean rises with the shift: bisection
        middle = (low + high) / 2
        if np.clip(wish + middle, 0, 1) @ size < sparsity * size.sum():
            low = middle
        else:
            high = middle
    return dict(zip(names, np.clip(wish + high, 0, 1).tolist(), strict=True))

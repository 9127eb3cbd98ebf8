"""Each layer is tried at several sparsities, and weights go where removing the next ones costs least.

    error[l](s) = tr((W - V) G (W - V)^T) / tr(W G W^T)        V: W without its lowest scores |w| * norm of input, G: gram

is the relative error of the layer's results. The sum of errors over layers, at a given number of weights that go, is least
where all layers have the same slope d error / d (weights removed): Lagrange's condition, found by bisection on convex hulls.
"""

from __future__ import annotations

import numpy as np

from aerogel.budget.shares import Budget, checked_share, shift_to_mean
from aerogel.calibrate.statistics import Statistics
from aerogel.prune import Unstructured, wanda_score
from aerogel.prune.contract import checked_inputs

#: Where a layer is tried.
TRIED = (0.0, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.875, 0.925, 0.965, 1.0)
#: How far from the mean a layer may go: the errors of layers one by one do not tell what they do together.
RANGE = 0.15


class Sensitivity(Budget):
    """Shares by the error that a layer alone makes."""

    needs = "gram"

    def __init__(self) -> None:
        super().__init__()
        self._errors: dict[str, np.ndarray] = {}

    def _look(self, name: str, weight: np.ndarray, statistics: Statistics | None) -> None:
        self._errors[name] = error_curve(*checked_inputs(weight, statistics))

    def share(self, sparsity: float) -> dict[str, float]:
        sparsity = checked_share(sparsity)
        if not self.sizes:
            return {}
        curves = {name: _Hull(errors, self.sizes[name]) for name, errors in self._errors.items()}
        limit = min(RANGE, sparsity, 1 - sparsity)
        lowest, highest = sparsity - limit, sparsity + limit
        total = sum(self.sizes.values())
        low, high = 0.0, max(curve.steepest for curve in curves.values()) * 2 + 1
        for _ in range(100):
            price = (low + high) / 2
            gone = sum(
                float(np.clip(curve.at(price), lowest, highest)) * self.sizes[name] for name, curve in curves.items()
            )
            if gone < sparsity * total:
                low = price
            else:
                high = price
        wishes = {name: float(np.clip(curve.at(high), lowest, highest)) for name, curve in curves.items()}
        return shift_to_mean(wishes, self.sizes, sparsity)


def error_curve(weight: np.ndarray, statistics: Statistics) -> np.ndarray:
    """The relative squared error of the results at each sparsity of TRIED, never falling."""
    score = wanda_score(weight, statistics)
    whole = float(np.einsum("nk,nk->", weight @ statistics.gram, weight))
    errors = []
    for sparsity in TRIED:
        lost = np.where(Unstructured(sparsity).keep(score), np.float32(0), weight)
        errors.append(float(np.einsum("nk,nk->", lost @ statistics.gram, lost)) / whole if whole > 0 else 0.0)
    return np.maximum.accumulate(errors)


class _Hull:
    """The lower convex hull of an error curve: sparsity as a function of the price of an error."""

    def __init__(self, errors: np.ndarray, size: int) -> None:
        points: list[tuple[float, float]] = []
        for point in zip(TRIED, errors.tolist(), strict=True):
            while len(points) > 1 and _slope(points[-2], points[-1]) >= _slope(points[-1], point):
                points.pop()
            points.append(point)
        self._sparsities = np.array([s for s, _ in points])
        slopes = np.array([_slope(a, b) for a, b in zip(points, points[1:], strict=False)]) / size
        self._slopes = slopes * 1e6  # error per million weights
        self.steepest = float(self._slopes[-1])

    def at(self, price: float) -> float:
        """The sparsity up to which each further million of weights costs less than `price`, between points in proportion."""
        middles = (self._sparsities[:-1] + self._sparsities[1:]) / 2
        return float(
            np.interp(price, np.concatenate(([0.0], self._slopes)), np.concatenate(([0.0], middles)), right=1.0)
        )


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])

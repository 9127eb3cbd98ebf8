"""Correlations and confidence intervals, in NumPy. Everything is deterministic: resampling has a fixed seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from aerogel._util.checks import array
from aerogel.errors import DataError, ShapeError

#: Resamples of a bootstrap, and its seed: the ends of a 95 % interval then vary by some hundredths of its width.
RESAMPLES, SEED = 1000, 0
#: The standard normal's 97.5 % quantile.
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % confidence interval: what other examples of the same kind would give."""

    value: float
    low: float = math.nan
    high: float = math.nan


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 on, float64 [n]; equal values share the mean of the places that they take."""
    values = array("values", values, 1)
    if np.isnan(values).any():
        raise DataError("values: hold NaN, which has no rank")
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    ends = np.append(begins[1:], len(ordered))
    result = np.empty(len(ordered))
    result[order] = np.repeat((begins + 1 + ends) / 2, ends - begins)
    return result


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Correlation of two [n]; NaN where one of them is constant, since it is not defined there."""
    x, y = (array(name, values, 1).astype(np.float64) for name, values in (("x", x), ("y", y)))
    if len(x) != len(y):
        raise ShapeError(f"y: expected {len(x)}, as many as x, got {len(y)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("x and y: hold NaN or infinite values")
    if len(x) < 2 or (x == x[0]).all() or (y == y[0]).all():
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    # scaled first: squares of tiny deviations would vanish
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip((x @ y) / math.sqrt((x @ x) * (y @ y)), -1, 1))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation of two [n], with average ranks: Pearson of the ranks."""
    return pearson(ranks(x), ranks(y))


def bootstrap(
    examples: int, figures: Callable[[np.ndarray], Mapping[str, float]], resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Estimate]:
    """Percentile bootstrap (Efron 1979) of several figures at once.

    Args:
        examples: how many there are.
        figures: indices int64 [examples] of a resample -> the figures on it. All of them see the same resample, so a
            figure that compares two models is paired.
        resamples: how often.
        seed: of the resampling.

    Returns:
        Every figure on the examples themselves, with the 2.5 % and 97.5 % quantiles over resamples. Resamples on which
        a figure is not defined (NaN) are left out of its quantiles.
    """
    random = np.random.default_rng(seed)
    whole = figures(np.arange(examples))
    found: dict[str, list[float]] = {name: [] for name in whole}
    for _ in range(resamples if examples > 1 else 0):
        for name, value in figures(random.integers(0, examples, examples)).items():
            if not math.isnan(value):
                found[name].append(value)
    result = {}
    for name, value in whole.items():
        low, high = np.quantile(found[name], [0.025, 0.975]) if found[name] else (math.nan, math.nan)
        result[name] = Estimate(float(value), float(low), float(high))
    return result


def wilson(successes: int, trials: int, z: float = Z95) -> Estimate:
    """A proportion and its score interval (Wilson 1927), which stays inside 0..1 and is right near its ends too."""
    p, z2 = successes / trials, z * z
    middle = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = z / (1 + z2 / trials) * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials * trials))
    return Estimate(p, max(0.0, middle - half), min(1.0, middle + half))

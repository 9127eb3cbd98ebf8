"""What every pruning method takes and returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from aerogel._util.checks import float32, instance
from aerogel.calibrate.statistics import Statistics
from aerogel.errors import DataError, RecipeError, ShapeError
from aerogel.prune.pattern import Pattern

#: What a method may need besides the weights: nothing (None), a `Statistics`, or dL/dw, float32 [N,K].
NEEDS = ("nothing", "gram", "gradient")


class Pruned(NamedTuple):
    """A pruned matrix.

    Attributes:
        weight: float32 [N,K], the new values; exactly 0 outside the mask.
        mask: bool [N,K], True where a weight is kept, as the pattern allows. False wherever the weight was 0 before.
    """

    weight: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class MethodEntry:
    """A row of METHODS.

    Attributes:
        function: (weight [N,K], what it needs, pattern) -> Pruned. Pure: its input is not changed, and the same input
            gives the same bytes. Those that solve for weights multiply with NumPy's BLAS, whose last bits depend on the CPU
            and, outside of `workers`, on its number of threads: there the same bytes need the same of both.
        score: (weight, what it needs) -> float32 [N,K] that is not negative, if one score of the dense weights decides;
            then thresholds over a whole model have a meaning. None where scores change while weights are removed.
        needs: one of NEEDS.
        summary: one line of description.
        source: the paper.
    """

    function: Callable[[np.ndarray, Any, Pattern], Pruned]
    score: Callable[[np.ndarray, Any], np.ndarray] | None
    needs: str
    summary: str
    source: str


def checked_weight(weight: np.ndarray) -> np.ndarray:
    """The weight as float32 [N,K]; raises ShapeError or DataError unless it is a finite matrix."""
    weight = float32("weight", weight, 2)
    # minimum and maximum instead of a matrix of flags: both are NaN if anything is
    if not np.isfinite(weight.max(initial=0)) or not np.isfinite(weight.min(initial=0)):
        raise DataError("weight: holds NaN or infinite values")
    return weight


def checked_inputs(weight: np.ndarray, statistics: Statistics | None) -> tuple[np.ndarray, Statistics]:
    """The weight as float32 [N,K], and the statistics, if they belong to its inputs."""
    weight = checked_weight(weight)
    if statistics is None:
        raise DataError("statistics: this method needs what calibration saw at the layer's input, got None")
    instance("statistics", statistics, Statistics, DataError)
    if statistics.inputs != weight.shape[1]:
        raise ShapeError(f"statistics: expected {weight.shape[1]} inputs, got {statistics.inputs}")
    return weight, statistics


def checked_pattern(pattern: Pattern) -> Pattern:
    """The pattern; raises RecipeError if it is none."""
    return instance("pattern", pattern, Pattern, RecipeError)


def removed(weight: np.ndarray, mask: np.ndarray) -> Pruned:
    """The weights of the mask as they are, 0 elsewhere."""
    return Pruned(np.where(mask, weight, np.float32(0)).astype(np.float32, copy=False), mask)

"""What every pruning method takes and returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from aerogel.calibrate.statistics import Statistics
from aerogel.errors import DataError, ShapeError
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
            and on its number of threads: there the same bytes need the same of both.
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


def check_weight(weight: np.ndarray) -> None:
    """Raises ShapeError or DataError unless `weight` is a finite matrix."""
    if weight.ndim != 2:
        raise ShapeError(f"weight: expected [N, K], got {list(weight.shape)}")
    # minimum and maximum instead of a matrix of flags: both are NaN if anything is
    if not np.isfinite(weight.max(initial=0)) or not np.isfinite(weight.min(initial=0)):
        raise DataError("weight: holds NaN or infinite values")


def check_statistics(weight: np.ndarray, statistics: Statistics | None) -> Statistics:
    """The statistics, if they belong to inputs of `weight`, which is checked too."""
    check_weight(weight)
    if statistics is None:
        raise DataError("statistics: this method needs what calibration saw at the layer's input, got None")
    if statistics.inputs != weight.shape[1]:
        raise ShapeError(f"statistics: expected {weight.shape[1]} inputs, got {statistics.inputs}")
    return statistics


def removed(weight: np.ndarray, mask: np.ndarray) -> Pruned:
    """The weights of the mask as they are, 0 elsewhere."""
    return Pruned(np.where(mask, weight, np.float32(0)).astype(np.float32, copy=False), mask)

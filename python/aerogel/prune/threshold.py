"""Thresholds: weights with a lower score are removed. Each layer gets its own sparsity, so a threshold is a budget:

    sparsity[l] = share of the scores of layer l that are below the threshold

and `Pattern.at(sparsity[l])` prunes exactly those, with any method that has a score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aerogel._util.checks import array, float32, items, number
from aerogel.errors import DataError, RecipeError

#: Scores of a whole model that are looked at together; more only costs memory.
GATHERED = 1 << 22


def sparsity_below(score: np.ndarray, threshold: float) -> float:
    """The fraction of scores below `threshold`, which is rounded to the scores' dtype: equal scores are not counted."""
    if not (isinstance(threshold, float) and threshold == math.inf):
        threshold = number("threshold", threshold, 0, error=RecipeError)
    score = float32("score", score)
    with np.errstate(over="ignore"):
        return float(np.count_nonzero(score < np.float32(threshold))) / max(1, score.size)


def global_threshold(scores: Sequence[np.ndarray], sparsity: float) -> float:
    """The threshold below which round(sparsity * total) scores of all matrices are, or fewer where scores are equal.

    Exact, without a copy of all scores: pivots taken from a sample narrow the range until `GATHERED` scores are left.
    With sparsity 1 it is infinite.
    """
    scores = _checked(scores)
    gone = _gone(scores, sparsity)
    below, low, high = 0, -np.inf, np.inf  # the threshold is in (low, high), `below` scores are not above low
    if gone == sum(score.size for score in scores):
        return np.inf
    while True:
        inside = [int(np.count_nonzero((score > low) & (score < high))) for score in scores]
        if sum(inside) <= GATHERED:
            left = np.concatenate([score[(score > low) & (score < high)] for score in scores])
            return float(np.partition(left, gone - below)[gone - below])
        sample = np.sort(np.concatenate([_sample(score, low, high, sum(inside)) for score in scores]))
        middle = int((gone - below) / sum(inside) * (sample.size - 1))
        margin = 1 + int(sample.size**0.5)
        for pivot in (sample[max(0, middle - margin)], sample[middle], sample[min(sample.size - 1, middle + margin)]):
            if not low < pivot < high:
                continue
            smaller = sum(int(np.count_nonzero(score < pivot)) for score in scores)
            equal = sum(int(np.count_nonzero(score == pivot)) for score in scores)
            if smaller <= gone < smaller + equal:
                return float(pivot)
            if gone < smaller:
                high = pivot
            else:
                low, below = pivot, smaller + equal


def global_sparsities(scores: Sequence[np.ndarray], sparsity: float) -> list[float]:
    """The sparsity of each matrix if exactly round(sparsity * total) of the lowest scores of all of them are removed.

    Among equal scores those of earlier matrices are kept.
    """
    scores = _checked(scores)
    gone = _gone(scores, sparsity)
    threshold = global_threshold(scores, sparsity)
    below = [int(np.count_nonzero(score < threshold)) for score in scores]
    spare = gone - sum(below)  # scores equal to the threshold that go too, the last first
    for i in range(len(scores) - 1, -1, -1):
        more = min(spare, int(np.count_nonzero(scores[i] == threshold)))
        below[i] += more
        spare -= more
    return [count / max(1, score.size) for count, score in zip(below, scores)]


def _checked(scores: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [array("score", score, kinds="fiu") for score in items("scores", scores)]


def _gone(scores: Sequence[np.ndarray], sparsity: float) -> int:
    sparsity = number("sparsity", sparsity, 0, 1, RecipeError)
    for score in scores:
        if not score.min(initial=0) >= 0 or not score.max(initial=0) < np.inf:
            raise DataError("score: holds NaN, infinite or negative values")
    return round(sparsity * sum(score.size for score in scores))


def _sample(score: np.ndarray, low: float, high: float, total: int) -> np.ndarray:
    """Every so many of the scores in (low, high): about GATHERED / 16 over all matrices."""
    inside = score[(score > low) & (score < high)]
    return inside[:: max(1, total * 16 // GATHERED)]

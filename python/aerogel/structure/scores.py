"""Scores of units: what would be lost with each. Pure functions, one row in SCORES each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from aerogel._util.checks import one_of
from aerogel.errors import RecipeError
from aerogel.structure.elimination import eliminate


class Connected(NamedTuple):
    """A tensor that units are connected by.

    Attributes:
        values: float32 [N, K] or [N].
        axis: along which the units lie; on axis 1 the tensor reads them.
        size: entries of the axis for one unit.
        gram: float32 [K, K], the mean of x x^T over the tensor's inputs x, or None if it is not known or axis is 0.
    """

    values: np.ndarray
    axis: int
    size: int
    gram: np.ndarray | None = None


class ScoreEntry(NamedTuple):
    """A row of SCORES: `needs` is "nothing" or "gram" (statistics of what reads the units)."""

    function: Callable[[Iterable[Connected]], np.ndarray]
    needs: str
    summary: str
    source: str


def weights(parts: Iterable[Connected]) -> np.ndarray:
    """float64 [units]: the sum of |w| over all connected weights."""
    return sum((_per_unit(np.abs(p.values), p) for p in parts), np.zeros(()))


def energy(parts: Iterable[Connected]) -> np.ndarray:
    """float64 [units]: the sum of w^2 over all connected weights."""
    return sum((_per_unit(np.square(p.values), p) for p in parts), np.zeros(()))


def contribution(parts: Iterable[Connected]) -> np.ndarray:
    """float64 [units]: how much of the output of the linears that read the units is theirs.

        score[u] = sum over linears of  trace(W_u G_uu W_u^T) / trace(W G W^T)

    with W_u the columns that read unit u and G the mean of x x^T: of an FFN channel E[x_j^2] |W_j|^2, over that of all.
    """
    total: np.ndarray | float = 0.0
    for part in parts:
        if part.gram is not None:
            own, whole = _output_energy(part)
            total = total + (own / whole if whole > 0 else np.zeros_like(own))
    return np.asarray(total)


def obs(parts: Iterable[Connected]) -> np.ndarray:
    """float64 [units]: what would be lost if the other units made up for it as well as they can, the worst going first.

    See `aerogel.structure.elimination`.
    """
    return eliminate([(p.values, p.gram, p.size) for p in parts if p.gram is not None])


#: name -> how it is computed and what it needs.
SCORES: dict[str, ScoreEntry] = {
    "weights": ScoreEntry(weights, "nothing", "sum of the absolute connected weights", "arXiv 1608.08710"),
    "energy": ScoreEntry(energy, "nothing", "sum of the squared connected weights", "arXiv 1608.08710"),
    "contribution": ScoreEntry(contribution, "gram", "share of the output that is the unit's", "arXiv 1707.06342"),
    "obs": ScoreEntry(obs, "gram", "what the other units cannot make up for, one after the other", "arXiv 2302.04089"),
}


def score(name: str) -> ScoreEntry:
    """The score called `name`."""
    return SCORES[one_of("score", name, SCORES, RecipeError)]


def share(scores: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Scores of several groups made comparable: each as a share of its group's sum."""
    return [s / s.sum() if s.sum() > 0 else np.zeros_like(s) for s in scores]


def _per_unit(values: np.ndarray, part: Connected) -> np.ndarray:
    other = tuple(axis for axis in range(values.ndim) if axis != part.axis)
    sums: np.ndarray = values.sum(axis=other, dtype=np.float64).reshape(-1, part.size).sum(axis=1)
    return sums


def _output_energy(part: Connected) -> tuple[np.ndarray, float]:
    """trace(W_u G_uu W_u^T) of every unit u, and trace(W G W^T) of all together."""
    assert part.gram is not None
    gram, size = np.asarray(part.gram, np.float64), part.size
    inner = np.asarray(part.values, np.float64)
    inner = inner.T @ inner  # [K, K]
    whole = float(np.vdot(inner, gram))
    if size == 1:
        return inner.diagonal() * gram.diagonal(), whole
    blocks = [slice(i, i + size) for i in range(0, len(gram), size)]
    return np.array([np.vdot(inner[b, b], gram[b, b]) for b in blocks]), whole

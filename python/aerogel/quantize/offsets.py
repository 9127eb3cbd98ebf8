"""Groups of 16 values that lie anywhere: a multiplier and an offset for each, whole numbers, and a float scale a row.

    code[n,k] = q[n,k] * multiplier[n,g] + offset[n,g]      q in [0, 15], code in [-127, 127]

An offset need not be a multiple of the step, as a zero point is. So a model that had 16 values a group already, as one from
a GGUF file has, keeps them but for the rounding of the multiplier to a whole number: of SmolLM2's Q4_1 the mean squared
error is a seventh of what zero points leave. A group in which a weight is 0, or of a sparse row, has 0 among its values.

The fit: the best step of each group as if it could be any number; then, for a few scales of the row, the whole multipliers
on both sides of it with the offset that centres them, by what error they really make; last the offset that is best for the
codes that were found. All operations round alike on every CPU.
"""

from __future__ import annotations

import numpy as np

from aerogel.numbers.int8 import LARGEST

#: Steps that are tried, as a part of the one that clips nothing.
_SHRINK = (0.64, 0.7, 0.76, 0.82, 0.88, 0.94, 1.0)
#: Scales of a row that are tried, as a part of the one at which its largest weight has the largest code.
_SCALES = (1.0, 1.03, 1.06, 1.09, 1.13, 1.17, 1.22, 1.28, 1.36)
#: And where 0 is among the values: a group to one side of it has multipliers up to 8 only.
_COARSER = (1.5, 1.65, 1.8, 2.0, 2.2, 2.5, 2.9)
#: A row with more zeros than this part is run behind a mask, which is filled with the index of 0 in all its groups.
_FEW = 1 / 8
#: Codes of a group, from the first to the last.
_CODES = 15
#: The largest multiplier: 15 steps of it are codes still; and where 0 is among them.
_MOST, _MOST_WITH_ZERO = 16, 15


def fitted_offsets(w: np.ndarray, counts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales [N], multipliers and offsets [N,G], float32, of rows in groups, float32 [N,G,group] in [-1, 1].

    counts: [1,G,group], how much squared errors count; None: all alike.
    """
    groups = _Groups(w, counts)
    step = groups.steps()
    n, g = step.shape
    least = np.full(n, np.inf, np.float32)
    scale, multiplier, offset = np.zeros(n, np.float32), np.ones((n, g), np.float32), np.zeros((n, g), np.float32)
    coarser = groups.zeros.any(axis=1)
    for factor in (*_SCALES, *(_COARSER if coarser.any() else ())):
        tried = np.float32(factor / LARGEST)
        lower = np.clip(np.floor(step / tried), 1, groups.most)
        found = _Found.best(groups, tried, (lower, np.minimum(lower + 1, groups.most)))
        error = found.error.sum(axis=1)
        better = (error < least) & (coarser | (factor <= _SCALES[-1]))
        least[better], scale[better] = error[better], tried
        multiplier[better], offset[better] = found.multiplier[better], found.offset[better]
    used = np.abs(w).max(axis=(1, 2), initial=0) > 0
    scale[~used], multiplier[~used], offset[~used] = 0, 1, 0
    return scale, multiplier, groups.refined(scale, multiplier, offset)


class _Groups:
    """Weights [N,G,group] whose values are looked for."""

    def __init__(self, w: np.ndarray, counts: np.ndarray | None) -> None:
        self._w = w
        self._counts = counts
        low, high = w.min(axis=-1), w.max(axis=-1)
        zeros = w == 0
        sparse = zeros.mean(axis=(1, 2)) > _FEW
        self.zeros = zeros.any(axis=-1) | sparse[:, None]  # [N,G]: 0 has to be a value
        self.most = np.where(self.zeros, np.float32(_MOST_WITH_ZERO), np.float32(_MOST))
        self._middle, self._range = (low + high) / 2, high - low

    def steps(self) -> np.ndarray:
        """The best steps [N,G], whole numbers or not."""
        best = np.zeros(self._range.shape, np.float32)
        least = np.full(self._range.shape, np.inf, np.float32)
        for shrink in _SHRINK:
            step = self._range * np.float32(shrink / _CODES)
            error = self.error(step, self._middle - step * np.float32(_CODES / 2))
            better = error < least
            least[better], best[better] = error[better], step[better]
        return best

    def offset(self, scale: np.floating, multiplier: np.ndarray) -> np.ndarray:
        """The whole offsets [N,G] that centre the values; 0 is one of them where it has to be."""
        half = np.float32(_CODES / 2)
        centred = np.rint(self._middle / scale - multiplier * half)
        return self.bounded(centred, multiplier)

    def bounded(self, offset: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
        """The nearest offsets that keep codes in [-127, 127], and 0 where it has to be."""
        offset = np.clip(offset, -LARGEST, LARGEST - _CODES * multiplier)
        # 0 is the q-th value: q steps below it and 15 - q above it have to be codes
        least = np.maximum(_CODES - LARGEST // multiplier, 0)
        q = np.clip(np.rint(-offset / multiplier), least, np.minimum(LARGEST // multiplier, _CODES))
        bounded: np.ndarray = np.where(self.zeros, -q * multiplier, offset)
        return bounded

    def error(self, step: np.ndarray, first: np.ndarray) -> np.ndarray:
        """The squared errors [N,G] of the 16 values that begin at `first`, a step apart; a step may be 0."""
        value = self.rounded(step, first)
        value *= step[..., None]
        value += first[..., None]
        value -= self._w
        value *= value
        if self._counts is not None:
            value *= self._counts
        error: np.ndarray = value.sum(axis=-1)
        return error

    def rounded(self, step: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Which of the 16 values is nearest, float32 [N,G,group]."""
        inverse = np.divide(1, step, out=np.zeros(step.shape, np.float32), where=step > 0)
        nearest: np.ndarray = self._w - first[..., None]
        nearest *= inverse[..., None]
        np.rint(nearest, out=nearest)
        np.clip(nearest, 0, _CODES, out=nearest)
        return nearest

    def refined(self, scale: np.ndarray, multiplier: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Offsets that are best for the codes that weights have, where that makes the error smaller."""
        unit = scale[:, None]
        step, first = multiplier * unit, offset * unit
        rest = self._w - self.rounded(step, first) * step[..., None]
        if self._counts is None:
            mean = rest.mean(axis=-1)
        else:
            whole = self._counts.sum(axis=-1)
            mean = (rest * self._counts).sum(axis=-1) / np.where(whole > 0, whole, 1)
        moved = np.rint(np.divide(mean, unit, out=np.zeros(mean.shape, np.float32), where=unit > 0))
        moved = self.bounded(moved, multiplier)
        better = self.error(step, moved * unit) < self.error(step, first)
        return np.where(better, moved, offset)


class _Found:
    """Multipliers and offsets [N,G] at a scale, and their errors."""

    def __init__(self, multiplier: np.ndarray, offset: np.ndarray, error: np.ndarray) -> None:
        self.multiplier, self.offset, self.error = multiplier, offset, error

    @classmethod
    def best(cls, groups: _Groups, scale: np.floating, options: tuple[np.ndarray, ...]) -> _Found:
        """Of these multipliers the better ones."""
        found: _Found | None = None
        for multiplier in options:
            offset = groups.offset(scale, multiplier)
            error = groups.error(multiplier * scale, offset * scale)
            if found is None:
                found = cls(multiplier, offset, error)
                continue
            better = error < found.error
            found.error[better], found.multiplier[better] = error[better], multiplier[better]
            found.offset[better] = offset[better]
        assert found is not None
        return found

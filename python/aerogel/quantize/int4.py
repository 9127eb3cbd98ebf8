"""int4 per group, on two levels: 4 bits a weight, a small whole step a group, a float scale a row.

    w[n,k] = (q[n,k] * multiplier[n,g] + offset[n,g]) * scale[n]      g = k // group

    symmetric   q in [-7, 7], no offsets
    asym        q in [0, 15], offset in [-127, 127]: `offsets.py`

What stands in brackets is a whole number in [-127, 127], so a layer runs as int8, bit for bit in every kernel. Source:
QServe (Lin et al., arXiv 2405.04532), which calls it progressive group quantization; here the scales are chosen to make
the squared error small, and offsets need not be multiples of the step.

The fit of symmetric ones, for each group: the squared error of rounding at a range of steps, from one that clips the
largest weights to coarse ones. For each row: of a few scales the one whose multiples, the best for each group, have the
least error together. Weights that are 0 cost nothing at any step, so they have no part in it. The fit is made of
operations that round alike on every CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aerogel.numbers.groups import in_groups, per_column
from aerogel.numbers.int8 import LARGEST
from aerogel.quantize.grid import Grid, Quantized, Scheme, checked, checked_importance, largest
from aerogel.quantize.offsets import fitted_offsets

#: Steps that are tried, as a part of the one that clips nothing. Fine where the best ones are, coarse above: a row's
#: scale may be too coarse for its smallest groups.
_SHRINK = np.array([0.5, 0.57, 0.64, 0.7, 0.76, 0.82, 0.88, 0.94, 1.0, 1.15, 1.5, 2.2, 4.0, 16.0], np.float32)
#: Scales of a row that are tried, as a part of the one that makes the largest multiplier reach its limit.
_SCALES = np.linspace(1.0, 1.8, 17).astype(np.float32)
#: The largest code of a symmetric group.
_MOST = 7
#: Elements that are worked on at once: some megabytes of temporaries.
_CHUNK = 1 << 18
#: What fits rows in groups, float32 [N,G,group] in [-1, 1], errors counting as [1,G,group] says (None: alike): scales [N],
#: whole multipliers and offsets [N,G], all float32.
Fit = Callable[[np.ndarray, np.ndarray | None], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Int4Grid(Grid):
    """scale float32 [N]; multiplier uint8 and offset int8 [N, ceil(K/group)]; offset None: symmetric."""

    scale: np.ndarray
    multiplier: np.ndarray
    offset: np.ndarray | None
    group: int

    def round(self, weight: np.ndarray, begin: int) -> np.ndarray:
        rounded: np.ndarray = self._codes(weight, begin) * self.scale[:, None]
        return rounded

    def quantize(self, weight: np.ndarray) -> Quantized:
        codes = self._codes(checked(weight), 0).astype(np.int8)
        levels = np.arange(-7, 8, dtype=np.int8) if self.offset is None else np.arange(16, dtype=np.int8)
        return Quantized(codes, self.scale, self.group, levels, self.multiplier, self.offset)

    def _codes(self, weight: np.ndarray, begin: int) -> np.ndarray:
        columns = weight.shape[1]
        multiplier = per_column(self.multiplier, self.group, columns, begin).astype(np.float32)
        step = self.scale[:, None] * multiplier
        steps: np.ndarray = np.divide(weight, step, out=np.zeros(weight.shape, np.float32), where=step > 0)
        if self.offset is None:
            np.clip(np.rint(steps, out=steps), -7, 7, out=steps)
            steps *= multiplier
        else:
            offset = per_column(self.offset, self.group, columns, begin).astype(np.float32)
            steps -= offset / multiplier
            np.clip(np.rint(steps, out=steps), 0, 15, out=steps)
            steps *= multiplier
            steps += offset
            steps[weight == 0] = 0
        return steps


@dataclass(frozen=True, repr=False)
class Int4(Scheme):
    """`group` columns share a multiplier and, if asymmetric, an offset."""

    group: int = 64
    asymmetric: bool = False

    @property
    def name(self) -> str:
        return f"int4:g{self.group}" + (":asym" if self.asymmetric else "")

    def grid(self, weight: np.ndarray, importance: np.ndarray | None = None) -> Int4Grid:
        weight = checked(weight)
        importance = checked_importance(importance, weight.shape[1])
        counts = None if importance is None else in_groups(importance[None], self.group)
        rows = max(1, _CHUNK // max(1, weight.shape[1]))
        if self.asymmetric:  # what the last group lacks is like its last column: a 0 would have to be a value
            weight = np.pad(weight, ((0, 0), (0, -weight.shape[1] % self.group)), "edge")
        fit = fitted_offsets if self.asymmetric else _fitted
        blocks = (weight[begin : begin + rows] for begin in range(0, len(weight), rows))
        scale, multiplier, offset = zip(*(self._scaled(block, fit, counts) for block in blocks), strict=True)
        joined = np.concatenate(offset).astype(np.int8) if self.asymmetric else None
        return Int4Grid(np.concatenate(scale), np.concatenate(multiplier).astype(np.uint8), joined, self.group)

    def _scaled(self, weight: np.ndarray, fit: Fit, counts: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """What fits some rows: scale, multiplier and offset."""
        reach = largest(weight)  # [N]
        w = in_groups(weight / np.where(reach > 0, reach, 1)[:, None], self.group)  # [N,G,group], in [-1, 1]
        scale, multiplier, offset = fit(w, counts)
        scale = scale * reach
        scale[scale < np.finfo(np.float32).tiny] = 0
        return scale, multiplier, offset


def _fitted(w: np.ndarray, counts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Without offsets: see `Fit`."""
    groups = _Groups(w, counts)
    errors = np.stack([groups.error(groups.full * shrink) for shrink in _SHRINK], axis=-1)  # [N,G,S]
    best = groups.full * _SHRINK[errors.argmin(axis=-1)]
    scale, multiplier = _row_scales(groups, best, errors)
    return scale, multiplier, np.zeros(multiplier.shape, np.float32)


class _Groups:
    """Weights [N,G,group] whose steps are looked for; their squared errors count as much as `counts`, [1,G,group], says.

    Attributes:
        full: float32 [N,G], the step that clips nothing; 0 where all weights are.
    """

    def __init__(self, w: np.ndarray, counts: np.ndarray | None) -> None:
        self._w = w
        self._counts = counts
        self.full = largest(w) / np.float32(_MOST)

    def error(self, step: np.ndarray) -> np.ndarray:
        """The squared error at steps [N,G], each of which may be 0 only where its weights are."""
        inverse = np.divide(1, step, out=np.zeros(step.shape, np.float32), where=step > 0)
        rounded = self._w * inverse[..., None]
        np.rint(rounded, out=rounded)
        np.clip(rounded, -_MOST, _MOST, out=rounded)
        rounded *= step[..., None]
        rounded -= self._w
        rounded *= rounded
        if self._counts is not None:
            rounded *= self._counts
        error: np.ndarray = rounded.sum(axis=-1)
        return error


def _row_scales(groups: _Groups, best: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The scales of rows, float32 [N], and multipliers, float32 [N,G], with the least error in all.

    best: the best steps [N,G]; errors: [N,G,S], at the steps full * _SHRINK.
    """
    n, g = best.shape
    most = np.float32(LARGEST // _MOST)
    least = (best / most).max(axis=1)  # [N]: the scale that needs the largest multipliers
    least_error = np.full(n, np.inf, np.float32)
    scale, multiplier = np.zeros(n, np.float32), np.ones((n, g), np.float32)
    for factor in _SCALES:
        tried = least * factor
        ratio = np.divide(best, tried[:, None], out=np.ones((n, g), np.float32), where=tried[:, None] > 0)
        options = np.clip(np.stack([np.floor(ratio), np.ceil(ratio)]), 1, most)  # [2,N,G]
        each = np.stack([_interpolated(errors, groups.full, option * tried[:, None]) for option in options])
        chosen = each.argmin(axis=0)[None]
        error = np.take_along_axis(each, chosen, 0)[0].sum(axis=1)
        better = error < least_error
        least_error[better], scale[better] = error[better], tried[better]
        multiplier[better] = np.take_along_axis(options, chosen, 0)[0][better]
    return scale, multiplier


def _interpolated(errors: np.ndarray, full: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The error [N,G] at steps [N,G], between those at full * _SHRINK."""
    shrink = np.divide(step, full, out=np.ones(step.shape, np.float32), where=full > 0)
    after = np.clip(np.searchsorted(_SHRINK, shrink), 1, len(_SHRINK) - 1)
    low, high = _SHRINK[after - 1], _SHRINK[after]
    part = np.clip((shrink - low) / (high - low), 0, 1)
    below = np.take_along_axis(errors, after[..., None] - 1, -1)[..., 0]
    above = np.take_along_axis(errors, after[..., None], -1)[..., 0]
    between: np.ndarray = below + part * (above - below)
    return between

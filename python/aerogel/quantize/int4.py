"""int4 per group, on two levels: 4 bits a weight, a small whole step a group, a float scale a row.

    w[n,k] = (q[n,k] - zero[n,g]) * multiplier[n,g] * scale[n]      g = k // group

    symmetric   q in [-7, 7], no zero points
    asym        q in [0, 15], zero in [0, 15]

(q - zero) * multiplier lies in [-127, 127], so a layer runs as int8, bit for bit in every kernel. Source: QServe (Lin
et al., arXiv 2405.04532), which calls it progressive group quantization; here the scales are chosen to make the squared
error small.

The fit, for each group: the squared error of rounding at a range of steps, from one that clips the largest weights to
coarse ones. For each row: of a few scales the one whose multiples, the best for each group, have the least error
together. Weights that are 0 cost nothing at any step, so they have no part in it. The fit is made of operations that
round alike on every CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aerogel.numbers.groups import in_groups, per_column
from aerogel.numbers.int8 import LARGEST
from aerogel.quantize.grid import Grid, Quantized, Scheme, checked, checked_importance, largest

#: Steps that are tried, as a part of the one that clips nothing. Fine where the best ones are, coarse above: a row's
#: scale may be too coarse for its smallest groups.
_SHRINK = np.array([0.5, 0.57, 0.64, 0.7, 0.76, 0.82, 0.88, 0.94, 1.0, 1.15, 1.5, 2.2, 4.0, 16.0], np.float32)
#: Scales of a row that are tried, as a part of the one that makes the largest multiplier reach its limit.
_SCALES = np.linspace(1.0, 1.8, 17).astype(np.float32)
#: Elements that are worked on at once: some megabytes of temporaries.
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Int4Grid(Grid):
    """scale float32 [N]; multiplier uint8 and zero int8 [N, ceil(K/group)]; zero None: symmetric."""

    scale: np.ndarray
    multiplier: np.ndarray
    zero: np.ndarray | None
    group: int

    def round(self, weight: np.ndarray, begin: int) -> np.ndarray:
        rounded: np.ndarray = self._codes(weight, begin) * self.scale[:, None]
        return rounded

    def quantize(self, weight: np.ndarray) -> Quantized:
        codes = self._codes(checked(weight), 0).astype(np.int8)
        levels = np.arange(-7, 8, dtype=np.int8) if self.zero is None else np.arange(16, dtype=np.int8)
        return Quantized(codes, self.scale, self.group, levels, self.multiplier, self.zero)

    def _codes(self, weight: np.ndarray, begin: int) -> np.ndarray:
        columns = weight.shape[1]
        multiplier = per_column(self.multiplier, self.group, columns, begin).astype(np.float32)
        step = self.scale[:, None] * multiplier
        steps = np.divide(weight, step, out=np.zeros(weight.shape, np.float32), where=step > 0)
        np.rint(steps, out=steps)
        if self.zero is None:
            np.clip(steps, -7, 7, out=steps)
        else:
            zero = per_column(self.zero, self.group, columns, begin).astype(np.float32)
            np.clip(steps, -zero, 15 - zero, out=steps)
        codes: np.ndarray = steps * multiplier
        return codes


@dataclass(frozen=True, repr=False)
class Int4(Scheme):
    """`group` columns share a multiplier and, if asymmetric, a zero point."""

    group: int = 64
    asymmetric: bool = False

    @property
    def name(self) -> str:
        return f"int4:g{self.group}" + (":asym" if self.asymmetric else "")

    def grid(self, weight: np.ndarray, importance: np.ndarray | None = None) -> Int4Grid:
        weight = checked(weight)
        importance = checked_importance(importance, weight.shape[1])
        counts = None if importance is None else in_groups(importance[None], self.group)
        rows = max(1, _CHUNK // weight.shape[1])
        parts = [self._fit(weight[begin : begin + rows], counts) for begin in range(0, len(weight), rows)]
        scale, multiplier, zero = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Int4Grid(scale, multiplier, zero if self.asymmetric else None, self.group)

    def _fit(self, weight: np.ndarray, counts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """scale, multiplier and zero of some rows; zero is all 0 if symmetric. counts: [1,G,group], see `_Groups`."""
        reach = largest(weight)  # [N]
        w = in_groups(weight / np.where(reach > 0, reach, 1)[:, None], self.group)  # [N,G,group], in [-1, 1]
        groups = _Groups(w, self.asymmetric, counts)
        errors = np.stack([groups.error(groups.full * shrink) for shrink in _SHRINK], axis=-1)  # [N,G,S]
        best = groups.full * _SHRINK[errors.argmin(axis=-1)]
        scale, multiplier = _row_scales(groups, best, errors)
        zero = groups.zero(scale[:, None] * multiplier)
        scale = scale * reach
        scale[scale < np.finfo(np.float32).tiny] = 0
        return scale, multiplier.astype(np.uint8), zero.astype(np.int8)


class _Groups:
    """Weights [N,G,group] whose steps are looked for; their squared errors count as much as `counts`, [1,G,group], says.

    Attributes:
        full: float32 [N,G], the step that clips nothing; 0 where all weights are.
    """

    def __init__(self, w: np.ndarray, asymmetric: bool, counts: np.ndarray | None) -> None:
        self._w = w
        self._counts = counts
        self._asymmetric = asymmetric
        self._low = np.maximum(-w.min(axis=-1), 0)  # 0 always lies between
        high = np.maximum(w.max(axis=-1), 0)
        self.full = (self._low + high) / np.float32(15) if asymmetric else np.maximum(self._low, high) / np.float32(7)

    def zero(self, step: np.ndarray) -> np.ndarray:
        """The zero points at steps [..., N, G], float32. Where weights are clipped, both ends give way alike."""
        if not self._asymmetric:
            return np.zeros(step.shape, np.float32)
        at_least = np.maximum(step, self.full)
        steps = np.divide(self._low, at_least, out=np.zeros(at_least.shape, np.float32), where=at_least > 0)
        zero: np.ndarray = np.clip(np.rint(steps), 0, 15)
        return zero

    def most(self, zero: np.ndarray) -> np.ndarray:
        """The largest multipliers that keep codes in [-127, 127], float32."""
        most: np.ndarray = LARGEST // (np.maximum(zero, 15 - zero) if self._asymmetric else np.float32(7))
        return most

    def error(self, step: np.ndarray) -> np.ndarray:
        """The squared error at steps [N,G], each of which may be 0 only where its weights are."""
        zero = self.zero(step)[..., None]
        low, high = (-zero, 15 - zero) if self._asymmetric else (-7, 7)
        inverse = np.divide(1, step, out=np.zeros(step.shape, np.float32), where=step > 0)
        rounded = self._w * inverse[..., None]
        np.rint(rounded, out=rounded)
        np.clip(rounded, low, high, out=rounded)
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
    least = (best / groups.most(groups.zero(best))).max(axis=1)  # [N]: the scale that needs the largest multipliers
    least_error = np.full(n, np.inf, np.float32)
    scale, multiplier = np.zeros(n, np.float32), np.ones((n, g), np.float32)
    for factor in _SCALES:
        tried = least * factor
        ratio = np.divide(best, tried[:, None], out=np.ones((n, g), np.float32), where=tried[:, None] > 0)
        options = np.stack([np.floor(ratio), np.ceil(ratio)])  # [2,N,G]
        np.maximum(options, 1, out=options)
        # A smaller multiplier is a smaller step, which may move the zero point and so lower the limit again.
        while (over := options > (most := groups.most(groups.zero(options * tried[:, None])))).any():
            options[over] = most[over]
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

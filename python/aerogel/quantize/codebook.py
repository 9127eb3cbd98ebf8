"""A codebook: every weight of a matrix is one of a few values, up to a scale for each row.

    w[n,k] = levels[index[n,k]] * scale[n]      levels int8, up to 256 of them, the same for all rows

The levels are the means of groups that k-means in one dimension finds among the weights, each weight divided by what is
typical of its row. Source: Deep Compression (Han et al., arXiv 1510.00149), which groups so too; the scales of rows and
the whole numbers are ours, so that a layer runs as int8, bit for bit in every kernel.

The weights w/scale are counted in a fine histogram, each as scale^2 times the importance of its column, since it is the
squared error of w that shall be small. Centres begin as dense as the density to the power of 3/8 (of very many the best
are as dense as its cube root: Panter and Dite, 1951), Lloyd's iterations follow; then each row takes the scale that fits
its levels best, and so again.

Nothing in the fit is random, and it is made of operations that round alike on every CPU: no power or root but the square
root, no product of matrices.

Zeros have no part in it. Where so many are zero that a mask is smaller than their indices, 0 takes none of the levels
and is one more value that a weight may have; where there are few, one of the levels is 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aerogel.numbers.bits import bits_for, mask_pays
from aerogel.numbers.int8 import LARGEST
from aerogel.quantize.grid import Grid, Quantized, Scheme, checked, checked_importance, largest

_BINS = 8192  # of the histogram
_ROUNDS = 3  # of levels, then scales
_ITERATIONS = 60  # of Lloyd in a round
_CHUNK = 1 << 18  # weights that are worked on at once


@dataclass(frozen=True)
class CodebookGrid(Grid):
    """scale float32 [N]; levels int8, rising; `zero_is_free`: 0 is a value too, level or not."""

    scale: np.ndarray
    levels: np.ndarray
    zero_is_free: bool

    def round(self, weight: np.ndarray, begin: int) -> np.ndarray:
        codes = _codes(weight, self.scale, self._values())
        rounded: np.ndarray = codes.astype(np.float32) * self.scale[:, None]
        return rounded

    def quantize(self, weight: np.ndarray) -> Quantized:
        weight = checked(weight)
        codes = np.empty(weight.shape, np.int8)
        values = self._values()
        for rows in _chunks(weight):
            codes[rows] = _codes(weight[rows], self.scale[rows], values)
        return Quantized(codes, self.scale, levels=self.levels)

    def _values(self) -> np.ndarray:
        return np.union1d(self.levels, np.int8(0)) if self.zero_is_free else self.levels


@dataclass(frozen=True, repr=False)
class Codebook(Scheme):
    """`entries`: 4 to 256. There may be fewer levels, since no two are equal."""

    entries: int = 16

    by_rows = False

    @property
    def name(self) -> str:
        return f"codebook:{self.entries}"

    def grid(self, weight: np.ndarray, importance: np.ndarray | None = None) -> CodebookGrid:
        weight = checked(weight)
        importance = checked_importance(importance, weight.shape[1])
        counts = np.ones(1) if importance is None else importance.astype(np.float64)
        nonzeros = np.count_nonzero(weight, axis=1)
        zeros = weight.size - int(nonzeros.sum())
        zero_is_free = mask_pays(weight.shape, zeros, bits_for(self.entries))
        unit = _typical(weight, nonzeros, self.entries)
        levels, scale = np.zeros(1, np.int8), np.zeros(len(weight))
        free = self.entries - (0 < zeros and not zero_is_free)
        for _ in range(_ROUNDS if unit.any() else 0):
            centres = _k_means(*_histogram(weight, unit, counts), free, fixed_zero=zeros > 0)
            outermost = np.abs(centres).max()
            levels = np.unique(np.rint(centres * (LARGEST / outermost)).astype(np.int8))
            scale = _fitted(weight, unit * (outermost / LARGEST), levels, counts)
            unit = scale * (LARGEST / outermost)
        if zero_is_free and len(levels) > 1:
            levels = levels[levels != 0]
        return CodebookGrid(scale.astype(np.float32), levels, zero_is_free)


def _typical(weight: np.ndarray, nonzeros: np.ndarray, entries: int) -> np.ndarray:
    """What the weights of each row are divided by, float64 [N]: the largest, so that the few whole numbers that levels
    may be are not spent on what only some rows have. Where levels are far apart anyway, something smaller is better.
    """
    reach = largest(weight).astype(np.float64)
    reach[reach < LARGEST * np.finfo(np.float32).tiny] = 0  # no scale is so small
    if entries > 16:
        return reach
    # float64, so that no square overflows or vanishes
    if not weight.size:
        return reach
    square = np.concatenate([np.square(weight[rows], dtype=np.float64).sum(axis=1) for rows in _chunks(weight)])
    typical: np.ndarray = np.sqrt(reach * np.sqrt(square / np.maximum(nonzeros, 1)))
    return typical


def _chunks(weight: np.ndarray) -> Iterator[slice]:
    rows = max(1, _CHUNK // weight.shape[1])
    return (slice(begin, begin + rows) for begin in range(0, len(weight), rows))


def _codes(weight: np.ndarray, scale: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The nearest of `values`, int8 and rising, to w/scale; 0 for 0. Of two that are as near, the lower one."""
    codes = np.divide(weight, scale[:, None], out=np.zeros(weight.shape, np.float32), where=scale[:, None] > 0)
    np.clip(codes, -LARGEST - 1, LARGEST + 1, out=codes)
    # Values meet at halves of whole numbers, so all between two neighbouring halves have one value.
    table = values[np.searchsorted((values[1:].astype(int) + values[:-1]) / 2, np.arange(-256, 257) / 2)]
    codes *= 2
    np.ceil(codes, out=codes)
    nearest: np.ndarray = table[codes.astype(np.int16) + 256]
    nearest[(weight == 0) | (scale[:, None] == 0)] = 0
    return nearest


def _fitted(weight: np.ndarray, scale: np.ndarray, levels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The scales, float64 [N], that fit the levels best which w/scale, float64 [N], is nearest to; columns count so much."""
    fitted = np.empty(len(weight))
    for rows in _chunks(weight):
        codes = _codes(weight[rows], scale[rows].astype(np.float32), levels).astype(np.float64)
        counted = codes * counts
        norm, along = (counted * codes).sum(axis=1), (counted * weight[rows]).sum(axis=1)
        fitted[rows] = np.where(along > 0, np.divide(along, norm, out=np.zeros_like(norm), where=norm > 0), scale[rows])
    limits = np.finfo(np.float32)
    return np.where(scale > 0, np.clip(fitted, limits.tiny, limits.max / LARGEST), 0)


def _histogram(weight: np.ndarray, unit: np.ndarray, importance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of w/unit and how much lies there, float64 [_BINS] each; zeros are not counted, columns as their importance."""
    inverse = np.divide(1, unit, out=np.zeros_like(unit), where=unit > 0)
    most = max(float(np.abs(weight[rows] * inverse[rows, None]).max()) for rows in _chunks(weight))
    # a row of far smaller weights than others counts a little more than its error does, or nothing would fit it
    share = np.maximum(np.square(unit / unit.max()), 1e-4)
    counts = np.zeros(_BINS)
    for rows in _chunks(weight):
        at = (weight[rows] * (inverse[rows, None] / most) + 1) * (_BINS / 2)
        at = np.clip(at.astype(np.int32), 0, _BINS - 1)
        counted = np.where(weight[rows] != 0, share[rows, None] * importance, 0)
        counts += np.bincount(at.ravel(), counted.ravel(), _BINS)
    return ((np.arange(_BINS) + 0.5) * (2 / _BINS) - 1) * most, counts


def _k_means(places: np.ndarray, counts: np.ndarray, entries: int, fixed_zero: bool) -> np.ndarray:
    """Centres, rising float64: `entries` of them, and 0 besides if that is fixed."""
    mass, moment = (np.concatenate([[0.0], np.cumsum(part)]) for part in (counts, counts * places))
    at, reach = np.arange(_BINS), _BINS // 256
    smooth = mass[np.minimum(at + reach, _BINS)] - mass[np.maximum(at - reach, 0)]
    root = np.sqrt(np.sqrt(np.maximum(smooth, 0)))
    density = np.cumsum(root * np.sqrt(root))
    quantiles = (np.arange(entries) + 0.5) / entries * density[-1]
    centres = places[np.searchsorted(density, quantiles)]
    for _ in range(_ITERATIONS):
        if fixed_zero:
            centres = np.concatenate([centres[centres < 0], [0.0], centres[centres >= 0]])
        ends = np.searchsorted(places, (centres[1:] + centres[:-1]) / 2)
        ends = np.concatenate([[0], ends, [len(places)]])
        amount = np.diff(mass[ends])
        moved = np.where(amount > 0, np.diff(moment[ends]) / np.where(amount > 0, amount, 1), centres)
        if fixed_zero:
            zero = int(np.count_nonzero(centres < 0))
            moved, centres = np.delete(moved, zero), np.delete(centres, zero)
        if np.array_equal(moved, centres):
            break
        centres = np.sort(moved)
    return np.sort(np.append(centres, 0.0)) if fixed_zero else centres

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

from dataclasses import dataclass

import numpy as np

from aerogel.errors import DataError
from aerogel.numbers.bits import bits_for, mask_pays
from aerogel.numbers.int8 import LARGEST
from aerogel.quantize.grid import Grid, Quantized, Rows, Scheme, checked, checked_importance, largest

_BINS = 8192  # of the histogram
_ROUNDS = 3  # of levels, then scales
_ITERATIONS = 60  # of Lloyd in a round


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
        return self.quantized(Rows.of(checked(weight)))

    def quantized(self, weight: Rows) -> Quantized:
        """`quantize` of a matrix that is read."""
        codes = np.empty(weight.shape, np.int8)
        values = self._values()
        for rows, block in weight:
            codes[rows] = _codes(block, self.scale[rows], values)
        return Quantized(codes, self.scale, levels=self.levels)

    def _values(self) -> np.ndarray:
        return _rising(np.append(self.levels, 0)) if self.zero_is_free else self.levels


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
        return self._grid(Rows.of(weight), checked_importance(importance, weight.shape[1]))

    def streamed(self, weight: Rows) -> Quantized:
        return self._grid(weight, None).quantized(weight)

    def _grid(self, weight: Rows, importance: np.ndarray | None) -> CodebookGrid:
        counts = np.ones(1) if importance is None else importance.astype(np.float64)
        nonzeros, reach, square = _facts(weight)
        zeros = weight.shape[0] * weight.shape[1] - int(nonzeros.sum())
        zero_is_free = mask_pays(weight.shape, zeros, bits_for(self.entries))
        unit = reach
        if self.entries <= 16:
            # Levels are far apart, so something smaller than the largest is better.
            unit = np.sqrt(reach * np.sqrt(square / np.maximum(nonzeros, 1)))
        levels, scale = np.zeros(1, np.int8), np.zeros(weight.shape[0])
        free = self.entries - (0 < zeros and not zero_is_free)
        for _ in range(_ROUNDS if unit.any() else 0):
            centres = _k_means(*_histogram(weight, unit, counts), free, fixed_zero=zeros > 0)
            outermost = np.abs(centres).max()
            levels = _rising(np.rint(centres * (LARGEST / outermost)))
            scale = _fitted(weight, unit * (outermost / LARGEST), levels, counts)
            unit = scale * (LARGEST / outermost)
        if zero_is_free and len(levels) > 1:
            levels = levels[levels != 0]
        return CodebookGrid(scale.astype(np.float32), levels, zero_is_free)


def _rising(values: np.ndarray) -> np.ndarray:
    """The different ones of a few whole numbers, int8. NumPy's `unique` loads its masked arrays, a megabyte."""
    return np.array(sorted(set(values.tolist())), np.int8)


def _facts(weight: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row [N]: how many weights are not zero; the largest, float64, which they are divided by so that the few whole
    numbers that levels may be are not spent on what only some rows have; the sum of squares, float64.
    """
    nonzeros, reach, square = np.zeros(weight.shape[0], np.int64), np.zeros(weight.shape[0]), np.zeros(weight.shape[0])
    for rows, block in weight:
        nonzeros[rows] = np.count_nonzero(block, axis=1)
        reach[rows] = largest(block)
        square[rows] = np.square(block, dtype=np.float64).sum(axis=1)  # in float64 no square overflows or vanishes
    if not np.isfinite(reach).all():
        raise DataError("weight: holds NaN or infinite values")
    reach[reach < LARGEST * np.finfo(np.float32).tiny] = 0  # no scale is so small
    return nonzeros, reach, square


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


def _fitted(weight: Rows, scale: np.ndarray, levels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The scales, float64 [N], that fit the levels best which w/scale, float64 [N], is nearest to; columns count so much."""
    fitted = np.empty(weight.shape[0])
    for rows, block in weight:
        codes = _codes(block, scale[rows].astype(np.float32), levels).astype(np.float64)
        counted = codes * counts
        norm, along = (counted * codes).sum(axis=1), (counted * block).sum(axis=1)
        fitted[rows] = np.where(along > 0, np.divide(along, norm, out=np.zeros_like(norm), where=norm > 0), scale[rows])
    limits = np.finfo(np.float32)
    return np.where(scale > 0, np.clip(fitted, limits.tiny, limits.max / LARGEST), 0)


def _histogram(weight: Rows, unit: np.ndarray, importance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of w/unit and how much lies there, float64 [_BINS] each; zeros are not counted, columns as their importance."""
    inverse = np.divide(1, unit, out=np.zeros_like(unit), where=unit > 0)
    most = max(float(np.abs(block * inverse[rows, None]).max()) for rows, block in weight)
    # a row of far smaller weights than others counts a little more than its error does, or nothing would fit it
    share = np.maximum(np.square(unit / unit.max()), 1e-4)
    counts = np.zeros(_BINS)
    for rows, block in weight:
        at = (block * (inverse[rows, None] / most) + 1) * (_BINS / 2)
        at = np.clip(at.astype(np.int32), 0, _BINS - 1)
        counted = np.where(block != 0, share[rows, None] * importance, 0)
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

"""The stored form of what a scheme gives: dense or behind a mask, codes or indices of levels."""

from __future__ import annotations

import numpy as np

from aerogel.checkpoint.weight import Weight
from aerogel.numbers.bits import bits_for, mask_pays, pack_bits
from aerogel.numbers.groups import per_column
from aerogel.quantize.grid import Quantized


def to_weight(quantized: Quantized, sparse: bool | None = None) -> Weight:
    """The stored form of a matrix: sparse where that is smaller, or as `sparse` says.

    Stored values are those that are not zero: a weight that quantizes to zero is as good as pruned. Indices take as few
    bits as tell the levels apart.
    """
    values = quantized.values
    n, k = values.shape
    stored = values != 0
    levels = quantized.levels
    bits = 8 * values.itemsize if levels is None else bits_for(len(levels))
    if sparse is None:
        sparse = mask_pays((n, k), values.size - int(np.count_nonzero(stored)), bits)
    mask = np.packbits(stored, axis=1, bitorder="little") if sparse else None
    if levels is None:
        kept = values[stored] if sparse else np.ascontiguousarray(values)
        return Weight((n, k), kept, quantized.scale, mask, quantized.group)
    if not sparse and not stored.all() and quantized.zero is None and 0 not in levels:  # the mask would have told
        levels = np.union1d(levels, np.int8(0))
        bits = bits_for(len(levels))
    index = _indices(quantized, levels)
    packed = pack_bits(index[stored] if sparse else index, bits)
    table = (levels, bits, quantized.multiplier, quantized.zero)
    return Weight((n, k), packed, quantized.scale, mask, quantized.group, *table)


def _indices(quantized: Quantized, levels: np.ndarray) -> np.ndarray:
    """The codes as indices, uint8 [N,K]; of no meaning where a code 0 is not in the table."""
    steps = quantized.values.astype(np.int16)
    if quantized.multiplier is not None:
        steps //= np.maximum(per_column(quantized.multiplier, quantized.group, steps.shape[1]), 1)
    if quantized.zero is not None:
        steps += per_column(quantized.zero, quantized.group, steps.shape[1])
    table = np.zeros(512, np.uint8)
    table[levels.astype(int) + 256] = np.arange(len(levels))
    return table[steps + 256]

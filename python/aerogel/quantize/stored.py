"""The stored form of what a scheme gives: dense or behind a mask, codes or indices of levels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from aerogel.checkpoint.weight import Weight
from aerogel.numbers.bits import bits_for, mask_pays, pack_bits
from aerogel.numbers.groups import per_column
from aerogel.quantize.grid import Quantized, Scheme, block_rows


def quantized_by_rows(scheme: Scheme, shape: tuple[int, int], blocks: Iterable[np.ndarray]) -> Quantized:
    """What the scheme makes of a matrix that comes a few rows at a time, which it does not need together.

    Args:
        scheme: one that goes `by_rows`.
        shape: (N, K).
        blocks: float32, the rows in turn.
    """
    done, values, tables = 0, None, []
    for block in blocks:
        part = scheme(block)
        if values is None:
            values = np.empty(shape, part.values.dtype)
        values[done : done + len(block)] = part.values
        done += len(block)
        tables.append((part.scale, part.multiplier, part.offset))
    assert values is not None and done == len(values)
    scale, multiplier, offset = (
        None if each[0] is None else np.concatenate(each) for each in zip(*tables, strict=True)
    )
    return Quantized(values, scale, part.group, part.levels, multiplier, offset)


def to_weight(quantized: Quantized, sparse: bool | None = None) -> Weight:
    """The stored form of a matrix: sparse where that is smaller, or where 0 has no index, or as `sparse` says.

    Stored values are those that are not zero: a weight that quantizes to zero is as good as pruned. Indices take as few
    bits as tell the levels apart.
    """
    values = quantized.values
    n, k = values.shape
    levels = quantized.levels
    bits = 8 * values.itemsize if levels is None else bits_for(len(levels))
    zeros = values.size - int(np.count_nonzero(values))
    if sparse is None:
        sparse = mask_pays((n, k), zeros, bits)
    if not sparse and zeros and _lacks_zero(quantized):
        sparse = True
    mask = np.packbits(values != 0, axis=1, bitorder="little") if sparse else None
    if levels is None:
        kept = values[values != 0] if sparse else np.ascontiguousarray(values)
        return Weight((n, k), kept, quantized.scale, mask, quantized.group)
    if not sparse and zeros and quantized.offset is None and 0 not in levels:  # the mask would have told
        levels = np.union1d(levels, np.int8(0))
        bits = bits_for(len(levels))
    if sparse:
        packed = pack_bits(_indices(quantized, levels, 0, n)[values != 0], bits)
    else:
        rows = block_rows(k)
        indices = (_indices(quantized, levels, begin, begin + rows) for begin in range(0, n, rows))
        packed = np.concatenate([pack_bits(part, bits) for part in indices])
    table = (levels, bits, quantized.multiplier)
    return Weight((n, k), packed, quantized.scale, mask, quantized.group, *table, offset=quantized.offset)


def _lacks_zero(quantized: Quantized) -> bool:
    """Whether a code is 0 in a group whose offset makes no index stand for it."""
    multiplier, offset = quantized.multiplier, quantized.offset
    if multiplier is None or offset is None:
        return False
    index = -(offset.astype(np.int16) // np.maximum(multiplier, 1))
    has = (index >= 0) & (index <= 15) & (offset + index * multiplier == 0)
    for begin in range(0, len(has), rows := block_rows(quantized.values.shape[1])):
        some = slice(begin, begin + rows)
        lacking = per_column(~has[some], quantized.group, quantized.values.shape[1])
        if ((quantized.values[some] == 0) & lacking).any():
            return True
    return False


def _indices(quantized: Quantized, levels: np.ndarray, begin: int, end: int) -> np.ndarray:
    """The codes of some rows as indices, uint8 [rows,K]; of no meaning where a code 0 is not in the table."""
    steps = quantized.values[begin:end].astype(np.int16)
    if quantized.offset is not None:
        steps -= per_column(quantized.offset[begin:end], quantized.group, steps.shape[1])
    if quantized.multiplier is not None:
        steps //= np.maximum(per_column(quantized.multiplier[begin:end], quantized.group, steps.shape[1]), 1)
    table = np.zeros(512, np.uint8)
    table[levels.astype(int) + 256] = np.arange(len(levels))
    return table[steps + 256]

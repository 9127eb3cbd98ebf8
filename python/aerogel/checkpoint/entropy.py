"""How many bits a weight holds: the least that a file can need for it, as far as simple statistics tell.

A matrix of N*K weights is a mask (which of them are stored) and the codes of those. Codes are taken as drawn one by one from
their histogram. A mask is taken in the cheapest of three ways: bits drawn one by one (unstructured pruning), bytes drawn one
by one (2:4, 4:8, 1x4 blocks), or windows of 64 columns, each as likely as any other with as many bits (q:64).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from aerogel.checkpoint.weight import Weight

_WINDOW = 64


def entropy_bits(symbols: NDArray[np.uint8] | NDArray[np.int8]) -> float:
    """Bits of all symbols together, drawn one by one from their own histogram (Shannon 1948): sum of -log2 p(symbol)."""
    counts = np.bincount(symbols.reshape(-1).view(np.uint8), minlength=256)
    counts = counts[counts > 0]
    return float((counts * np.log2(counts.sum() / counts)).sum()) if counts.size else 0.0


def mask_entropy_bits(mask: NDArray[np.uint8], k: int) -> float:
    """Bits of a mask uint8 [N, ceil(K/8)], least significant first, in the cheapest of the ways above."""
    places: int = mask.shape[0] * k
    ones = int(_POPCOUNT[mask].sum(dtype=np.int64))
    by_bit = ones * _log2(places, ones) + (places - ones) * _log2(places, places - ones)
    by_byte = entropy_bits(mask)
    if k % _WINDOW:
        return min(by_bit, by_byte)
    in_window = _POPCOUNT[mask].reshape(-1, _WINDOW // 8).sum(axis=1, dtype=np.uint8)
    choices = np.array([math.log2(math.comb(_WINDOW, bits)) for bits in range(_WINDOW + 1)])
    return min(by_bit, by_byte, entropy_bits(in_window) + float(choices[in_window].sum()))


def weight_entropy_bits(weight: Weight) -> float:
    """Bits per weight of mask and codes, scales left aside; of floats and bf16, what they take: their bits look random.

    Args:
        weight: a matrix [N, K] in its stored form.
    """
    n, k = weight.shape
    mask = 0.0 if weight.mask is None else mask_entropy_bits(weight.mask, k)
    values = entropy_bits(weight.values) if weight.values.itemsize == 1 else 8.0 * weight.values.nbytes
    return (mask + values) / (n * k)


_POPCOUNT = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.uint8)


def _log2(whole: int, part: int) -> float:
    """log2(whole / part), 0 for no part."""
    return math.log2(whole / part) if part else 0.0

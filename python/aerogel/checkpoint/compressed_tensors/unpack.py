"""Integers of 1 to 8 bits packed into 32-bit words, lowest bits first.

What is stored is u = q + 2^(b-1). There are two layouts of a row of C numbers; for 1, 2, 4 and 8 bits they are the same:

    lanes     (versions before 0.18)  floor(32/b) numbers a word, its top bits unused    ceil(C / floor(32/b)) words
    stream    (0.18 and later)        number i begins at bit i*b, words are straddled     ceil(C*b / 32) words

    b = 3:    bit  0  3  6       27 30 32 33          lanes: number 10 begins word 1;  stream: it has bits 30, 31 and 32
                   u0 u1 u2  ... u9 --|u10 ...        u0 u1 ... u9 u10|

Where the width of a row fits both, bits decide that are set where one of them has no number; where that fits both too, the
version: old files do not say theirs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aerogel.errors import DataError, ShapeError

_STREAM_SINCE = (0, 18)
_CHUNK = 1 << 22  # numbers that are unpacked at once, in 4 bytes each


def unpack(words: NDArray[np.int32], count: int, bits: int, version: tuple[int, ...], where: str) -> NDArray[np.int8]:
    """int32 [R, words] -> int8 [R, count], in -2^(bits-1) .. 2^(bits-1)-1.

    `version` is the writer's, empty if it did not say.

    Raises:
        ShapeError: a row has neither layout's width.
        DataError: bits are set where no number is.
    """
    rows, width = words.shape
    unsigned = words.view(np.uint32)
    first = _first_bits(unsigned, count, bits, version, where)
    word, shift = first // 32, (first % 32).astype(np.uint32)
    straddling = np.flatnonzero(shift + bits > 32)
    left = (32 - shift[straddling]).astype(np.uint32)
    result = np.empty((rows, count), np.int8)
    step = max(1, _CHUNK // max(1, count))
    for begin in range(0, rows, step):
        part = unsigned[begin : begin + step]
        numbers = part[:, word] >> shift
        if straddling.size:
            numbers[:, straddling] |= part[:, word[straddling] + 1] << left
        numbers &= np.uint32((1 << bits) - 1)
        result[begin : begin + step] = numbers.astype(np.int16) - (1 << (bits - 1))
    return result


def _first_bits(
    words: NDArray[np.uint32], count: int, bits: int, version: tuple[int, ...], where: str
) -> NDArray[np.int64]:
    """The bit of its row at which each number begins."""
    lanes, width = 32 // bits, words.shape[1]
    numbers = np.arange(count, dtype=np.int64)
    layouts = {  # the likelier first
        "lanes": (-(-count // lanes), numbers // lanes * 32 + numbers % lanes * bits),
        "stream": (-(-count * bits // 32), numbers * bits),
    }
    if version >= _STREAM_SINCE:
        layouts = dict(reversed(layouts.items()))
    fitting = [first for words_a_row, first in layouts.values() if words_a_row == width]
    if not fitting:
        widths = " or ".join(map(str, sorted({words_a_row for words_a_row, _ in layouts.values()})))
        raise ShapeError(f"{where}: {count} numbers of {bits} bits: expected {widths} words a row, got {width}")
    stray = [_stray_word(words, first, bits) for first in fitting]
    for first, word in zip(fitting, stray):
        if word is None:
            return first
    raise DataError(f"{where}: expected zeros where no number is, got bits set in word {stray[0]} of a row")


def _stray_word(words: NDArray[np.uint32], first: NDArray[np.int64], bits: int) -> int | None:
    """The first word of a row with a bit set where no number is."""
    used = np.zeros(words.shape[1] * 32, np.uint8)
    used[(first[:, None] + np.arange(bits)).reshape(-1)] = 1
    unused = ~np.packbits(used, bitorder="little").view("<u4")
    for word in np.flatnonzero(unused):
        if np.any(words[:, word] & unused[word]):
            return int(word)
    return None

"""Integers of 1 to 8 bits packed into 32-bit words, lowest bits first.

What is stored is u = q + 2^(b-1). There are two layouts of a row of C numbers; for 1, 2, 4 and 8 bits they are the same:

    lanes     (versions before 0.17)  floor(32/b) numbers a word, its top bits unused    ceil(C / floor(32/b)) words
    stream    (0.17 and later)        number i begins at bit i*b, words are straddled     ceil(C*b / 32) words

    b = 3:    bit  0  3  6       27 30 32 33          lanes: number 10 begins word 1;  stream: it has bits 30, 31 and 32
                   u0 u1 u2  ... u9 --|u10 ...        u0 u1 ... u9 u10|
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aerogel.errors import CheckpointError, DataError, ShapeError

_STREAM_SINCE = (0, 17)
_CHUNK = 1 << 22  # numbers that are unpacked at once, in 4 bytes each


def unpack(words: NDArray[np.int32], count: int, bits: int, version: tuple[int, ...], where: str) -> NDArray[np.int8]:
    """int32 [R, words] -> int8 [R, count], in -2^(bits-1) .. 2^(bits-1)-1.

    `version` is the writer's; it decides where the width of a row leaves both layouts open.

    Raises:
        ShapeError: a row has neither layout's width.
        CheckpointError: the layout depends on the version and there is none.
        DataError: bits are set where no number is.
    """
    rows, width = words.shape
    stream = _is_stream(width, count, bits, version, where)
    if stream:
        first = np.arange(count, dtype=np.int64) * bits
    else:
        lanes = 32 // bits
        first = np.arange(count, dtype=np.int64) // lanes * 32 + np.arange(count, dtype=np.int64) % lanes * bits
    unsigned = words.view(np.uint32)
    _check_padding(unsigned, first, bits, where)
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


def _is_stream(width: int, count: int, bits: int, version: tuple[int, ...], where: str) -> bool:
    lanes, stream = -(-count // (32 // bits)), -(-count * bits // 32)
    if width not in (lanes, stream):
        widths = f"{stream}" if lanes == stream else f"{stream} or {lanes}"
        raise ShapeError(f"{where}: {count} numbers of {bits} bits: expected {widths} words a row, got {width}")
    if lanes != stream:
        return width == stream
    if 32 % bits == 0 or count * bits <= 32 // bits * bits:  # the same in both
        return True
    if not version:
        raise CheckpointError(
            f"{where}: {count} numbers of {bits} bits in {width} words are packed one way before version 0.17 of "
            "compressed-tensors and another way since: expected a version in the config, found none"
        )
    return version >= _STREAM_SINCE


def _check_padding(words: NDArray[np.uint32], first: NDArray[np.int64], bits: int, where: str) -> None:
    used = np.zeros(words.shape[1] * 32, np.uint8)
    used[(first[:, None] + np.arange(bits)).reshape(-1)] = 1
    unused = ~np.packbits(used, bitorder="little").view("<u4")
    for word in np.flatnonzero(unused):
        if np.any(words[:, word] & unused[word]):
            raise DataError(f"{where}: expected zeros where no number is, got bits set in word {word} of a row")

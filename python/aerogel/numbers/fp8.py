"""8-bit floats, decoded: NumPy has no such types, so codes are uint8.

    e4m3    1 sign, 4 exponent, 3 fraction bits, bias 7; no infinity, S.1111.111 is NaN; the largest is 448
    e5m2    1 sign, 5 exponent, 2 fraction bits: the upper half of a float16, with its infinities and NaN

Both are those of the Open Compute Project (arXiv 2209.05433); e4m3 is what others call e4m3fn.
"""

from __future__ import annotations

import numpy as np


def _e4m3() -> np.ndarray:
    codes = np.arange(256)
    exponent, fraction = codes >> 3 & 15, codes & 7
    value = np.where(exponent, np.ldexp(1 + fraction / 8, exponent - 7), np.ldexp(fraction / 8, -6))
    value[codes & 127 == 127] = np.nan
    return np.where(codes & 128, -value, value).astype(np.float32)


_E4M3 = _e4m3()


def widen_e4m3(codes: np.ndarray) -> np.ndarray:
    """uint8 codes as float32, exactly."""
    values: np.ndarray = _E4M3[codes]
    return values


def widen_e5m2(codes: np.ndarray) -> np.ndarray:
    """uint8 codes as float32, exactly."""
    return (codes.astype(np.uint16) << 8).view(np.float16).astype(np.float32)

"""bf16, the upper half of a float32: 8 bits of significand, the same exponents. NumPy has no such type: codes are uint16."""

from __future__ import annotations

import numpy as np

_EXPONENT = 0x7F80
_LARGEST = 0x7F7F


def widen(codes: np.ndarray) -> np.ndarray:
    """uint16 codes as float32, exactly."""
    return (codes.astype(np.uint32) << 16).view(np.float32)


def narrow(values: np.ndarray) -> np.ndarray:
    """The uint16 codes nearest to finite float32 values, ties to even. Beyond the largest bf16 it is the largest bf16;
    -0 becomes 0.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    codes = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    codes[~finite(codes)] -= _EXPONENT - _LARGEST
    codes[codes == 0x8000] = 0
    return codes


def finite(codes: np.ndarray) -> np.ndarray:
    """bool: neither infinite nor NaN."""
    found: np.ndarray = (codes & _EXPONENT) != _EXPONENT
    return found

"""int8 per row, one number at a time."""

from __future__ import annotations

import numpy as np


def int8(weight):
    codes = np.zeros(weight.shape, np.int8)
    scales = np.zeros(len(weight), np.float32)
    for n, row in enumerate(weight):
        scale = np.float32(np.float32(max(abs(v) for v in row)) / np.float32(127))
        if scale < np.finfo(np.float32).tiny:
            continue
        scales[n] = scale
        codes[n] = [max(-127, min(127, round(float(np.float32(v) / scale)))) for v in row]  # round() is half to even
    return codes, scales


def bf16(weight):
    """The nearest of the two neighbours in bf16, by distance; at a tie the one whose last bit is 0."""
    codes = np.zeros(weight.shape, np.uint16)
    for place, value in np.ndenumerate(weight):
        low = int(np.float32(abs(value)).view(np.uint32)) >> 16
        near, far = (float(np.array(code << 16, np.uint32).view(np.float32)) for code in (low, low + 1))
        below, above = abs(float(value)) - near, far - abs(float(value))
        code = low + 1 if above < below or (above == below and low % 2) else low
        code = min(code, 0x7F7F)
        codes[place] = code | (0x8000 if value < 0 and code else 0)
    return codes

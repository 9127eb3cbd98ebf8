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

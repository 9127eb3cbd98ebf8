"""The fixed int8 scale of a linear's input: static quantization of activations.

    code = clamp(round(x * 127 / limit), -127, 127)

One limit for all tokens that ever come. The largest |x| that calibration sees cuts nothing, but a single outlier then
makes all other codes coarse; a smaller one cuts outliers and rounds the rest finer. The limit taken has the least mean
squared error over the calibration texts, found on a histogram of |x| (as in Sung, Shin and Hwang, arXiv 1511.06488).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from aerogel.numbers.int8 import SMALLEST_LIMIT

#: Bins of the histogram between 0 and the largest |x|.
BINS = 4096
#: Limits that are tried, evenly spaced up to the largest |x|.
TRIED = 256
#: Elements that the histogram is made of, evenly spaced rows; the largest |x| is that of all.
MOST_ELEMENTS = 1 << 22


def limit_of(blocks: Callable[[], Iterable[np.ndarray]], divisor: np.ndarray | None = None) -> float | None:
    """The limit of inputs, divided by float32 [K] where scales are folded.

    None where every input is 0: nothing is known then.

    Args:
        blocks: gives all inputs, in blocks float32 [tokens, K]; called twice.
        divisor: float32 [K], or None.
    """
    size, reach = 0, np.zeros(0, np.float32)
    for x in blocks():
        most = np.maximum(x.max(axis=0), -x.min(axis=0))
        reach = np.maximum(reach, most) if size else most
        size += x.size
    largest = float((reach if divisor is None else reach / divisor).max(initial=0))
    if not SMALLEST_LIMIT <= largest <= float(np.finfo(np.float32).max):
        return None
    edges = np.linspace(0.0, largest, BINS + 1)
    counts = np.zeros(BINS)
    step, next_row = -(-size // MOST_ELEMENTS), 0
    for x in blocks():
        rows = x[next_row::step]
        next_row = (next_row - len(x)) % step
        magnitudes = np.abs(rows if divisor is None else rows / divisor)
        counts += np.histogram(magnitudes, BINS, (0.0, largest))[0]
    centres = (edges[1:] + edges[:-1]) / 2
    limits = largest * np.arange(1, TRIED + 1) / TRIED
    errors = [float(counts @ _squared_errors(centres, limit)) for limit in limits]
    return float(np.float32(limits[int(np.argmin(errors))]))


def _squared_errors(magnitudes: np.ndarray, limit: float) -> np.ndarray:
    """What coding takes from each of float64 [n], squared."""
    scale = limit / 127
    return (magnitudes - np.minimum(np.rint(magnitudes / scale), 127) * scale) ** 2

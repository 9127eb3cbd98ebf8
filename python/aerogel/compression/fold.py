"""Moving the scale of outlier channels from activations into weights: SmoothQuant (Xiao et al., arXiv 2211.10438).

    x w = (x / s) (s w)        s[k] = max |x[k]|^alpha / max |w[k]|^(1 - alpha)

One int8 scale serves a whole token, so a channel a hundred times larger than the others leaves them few codes. x / s is
made by dividing what makes x: the vector of a norm, or the rows of the linear before, whose int8 scales take it up exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from aerogel.architectures import Fold
from aerogel.calibrate import Statistics
from aerogel.checkpoint import Weight
from aerogel.numbers.bf16 import narrow, widen


def scale_of(fold: Fold, weights: Sequence[np.ndarray], statistics: Statistics, alpha: float) -> np.ndarray:
    """s, float32 [entries of the maker]; 1 where a channel is never used.

    Args:
        fold: which channels are made by one entry: they share its s.
        weights: float32 [N,K] of each reader.
        statistics: of x.
        alpha: 0 leaves activations as they are, 1 gives all of them the same range.
    """
    width = statistics.inputs
    entry = np.arange(width) if fold.columns is None else fold.columns
    inputs, outputs = np.zeros(int(entry.max()) + 1, np.float32), np.zeros(int(entry.max()) + 1, np.float32)
    largest = np.max([np.abs(weight).max(axis=0, initial=0) for weight in weights], axis=0)
    np.maximum.at(inputs, entry, statistics.largest)
    np.maximum.at(outputs, entry, largest)
    used = (inputs > 0) & (outputs > 0)
    s = np.ones(inputs.shape, np.float32)
    s[used] = inputs[used] ** np.float32(alpha) / outputs[used] ** np.float32(1 - alpha)
    s[~np.isfinite(s) | (s < 1e-5)] = 1
    return s


def divided_inputs(statistics: Statistics, s: np.ndarray) -> Statistics:
    """The statistics of x / s; float32 [K]."""
    return Statistics(statistics.tokens, statistics.gram / s / s[:, None], statistics.largest / s)


def divided_rows(weight: Weight, s: np.ndarray) -> Weight:
    """The stored matrix with row n divided by s[n]: exact for codes, whose scales take it up."""
    if weight.scale is not None:
        factor = s if weight.scale.ndim == 1 else s[:, None]
        return dataclasses.replace(weight, scale=weight.scale / factor)
    if weight.mask is None:
        rows = np.broadcast_to(s[:, None], weight.shape)
    else:
        counts = np.unpackbits(weight.mask, axis=1, count=weight.shape[1]).sum(axis=1, dtype=np.int64)
        rows = np.repeat(s, counts)
    if weight.values.dtype == np.uint16:
        return dataclasses.replace(weight, values=narrow(widen(weight.values) / rows))
    return dataclasses.replace(weight, values=weight.values / rows)

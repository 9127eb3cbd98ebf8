"""Derivatives of ops of a program, on arrays: what calibration needs to see how much a layer's result moves the model's.

A function `x_back` takes the gradient of what `x` has made, and what `x` says it needs for that, and gives the gradient of
its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]


def normalized(x: np.ndarray, eps: float, centre: bool) -> Pair:
    """Rows of length sqrt(width): float32 [.., width], and by what they were multiplied, [.., 1]; `centre`: without their
    mean."""
    x = x - x.mean(axis=-1, keepdims=True) if centre else x
    factor = 1 / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(eps))
    return x * factor, factor


def normalized_back(g: np.ndarray, n: np.ndarray, factor: np.ndarray, centre: bool) -> np.ndarray:
    """n, factor: what `normalized` gave."""
    along: np.ndarray = g - n * (g * n).mean(axis=-1, keepdims=True)
    if centre:
        along = along - g.mean(axis=-1, keepdims=True)
    found: np.ndarray = along * factor
    return found


def _erf(x: np.ndarray) -> np.ndarray:
    """Abramowitz and Stegun 7.1.26: off by 1.5e-7 at most."""
    t = 1 / (1 + np.float32(0.3275911) * np.abs(x))
    sum = np.zeros_like(x)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        sum = (sum + np.float32(factor)) * t
    found: np.ndarray = np.sign(x) * (1 - sum * np.exp(-np.square(x)))
    return found


def _gelu(x: np.ndarray) -> Pair:
    share = (1 + _erf(x * np.float32(math.sqrt(0.5)))) / 2
    density = np.exp(-np.square(x) / 2) * np.float32(1 / math.sqrt(2 * math.pi))
    return x * share, share + x * density


def _gelu_tanh(x: np.ndarray) -> Pair:
    factor, cubic = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)
    t = np.tanh(factor * (x + cubic * x * x * x))
    slope = factor * (1 + 3 * cubic * x * x)
    return x * (1 + t) / 2, (1 + t) / 2 + x * (1 - t * t) * slope / 2


def _silu(x: np.ndarray) -> Pair:
    share = (1 + np.tanh(x / 2)) / 2
    return x * share, share * (1 + x * (1 - share))


def _tanh(x: np.ndarray) -> Pair:
    y = np.tanh(x)
    return y, 1 - y * y


def _relu(x: np.ndarray) -> Pair:
    return np.maximum(x, 0), (x > 0).astype(np.float32)


#: x -> (the activation, its derivative), by its kind.
ACTIVATIONS: Mapping[str, Callable[[np.ndarray], Pair]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
    "silu": _silu,
    "tanh": _tanh,
}


def turned(x: np.ndarray, heads: int, head_dim: int, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """The first `heads` heads of float32 [T, width], each one's first 2 P columns rotated by cos and sin, [T, P]. With -sin
    it is turned back."""
    pairs = cos.shape[1]
    y: np.ndarray = x.copy()
    before = x[:, : heads * head_dim].reshape(len(x), heads, head_dim)
    a, b = before[:, :, :pairs], before[:, :, pairs : 2 * pairs]
    after = before.copy()
    after[:, :, :pairs] = a * cos[:, None] - b * sin[:, None]
    after[:, :, pairs : 2 * pairs] = b * cos[:, None] + a * sin[:, None]
    y[:, : heads * head_dim] = after.reshape(len(x), -1)
    return y

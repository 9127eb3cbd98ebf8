"""Magnitude pruning by sorting in Python."""

from __future__ import annotations

import math

import numpy as np


def _first_largest(values, count):
    order = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))
    return set(order[:count])


def unstructured(weight, sparsity):
    flat = weight.reshape(-1).tolist()
    kept = _first_largest(flat, len(flat) - round(sparsity * len(flat)))
    return np.array([i in kept for i in range(len(flat))]).reshape(weight.shape)


def windowed(weight, q):
    mask = np.zeros(weight.shape, bool)
    for n, row in enumerate(weight.tolist()):
        for begin in range(0, len(row), 64):
            window = row[begin : begin + 64]
            for i in _first_largest(window, math.ceil(q * len(window) / 64)):
                mask[n, begin + i] = True
    return mask

"""Pruning the slow way: patterns by sorting in Python, SparseGPT and GPTQ from the textbook in float64."""

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


def windowed(weight, q, width=64):
    mask = np.zeros(weight.shape, bool)
    for n, row in enumerate(weight.tolist()):
        for begin in range(0, len(row), width):
            window = row[begin : begin + width]
            for i in _first_largest(window, math.ceil(q * len(window) / width)):
                mask[n, begin + i] = True
    return mask


def blocks(weight, rows, columns, sparsity):
    n, k = weight.shape
    parts = [(slice(i, i + rows), slice(j, j + columns)) for i in range(0, n, rows) for j in range(0, k, columns)]
    scores = [float(np.mean(weight[part].astype(np.float64) ** 2)) for part in parts]
    mask = np.zeros(weight.shape, bool)
    for i in _first_largest(scores, len(parts) - round(sparsity * len(parts))):
        mask[parts[i]] = True
    return mask


def obs(weight, gram, keep, damping=0.01, block=128, grid=None):
    """SparseGPT's pseudocode: removes a column at a time from the inverse of what is left, by the definition.

    keep(score, begin, end) -> mask of columns [begin, end); called where begin is a multiple of `block`.
    """
    k = weight.shape[1]
    h = gram.astype(np.float64) + damping * np.mean(np.diag(gram)) * np.eye(k)
    w = weight.astype(np.float64)
    mask = np.zeros(w.shape, bool)
    inverses = [np.linalg.inv(h[j:, j:]) for j in range(k)]  # of what is left when column j has its turn
    diagonal = np.array([inverse[0, 0] for inverse in inverses])
    for j in range(k):
        if j % block == 0:
            end = min(k, j + block)
            mask[:, j:end] = keep(np.abs(w[:, j:end]) / np.sqrt(diagonal[j:end]), j, end)
        inverse = inverses[j]
        new = np.where(mask[:, j], w[:, j], 0)
        if grid is not None:
            new = np.where(mask[:, j], grid(new[:, None], j)[:, 0], 0)
        w[:, j:] -= ((w[:, j] - new) / inverse[0, 0])[:, None] * inverse[0]
        w[:, j] = new
    return w, mask


def least_squares(weight, h, mask):
    """The values of the mask that minimise tr((W-V) H (W-V)^T), a row at a time."""
    h = h.astype(np.float64)
    value = np.zeros(weight.shape)
    for n, row in enumerate(weight.astype(np.float64)):
        (s,) = np.nonzero(mask[n])
        if s.size:
            value[n, s] = np.linalg.solve(h[np.ix_(s, s)], (h @ row)[s])
    return value

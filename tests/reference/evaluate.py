"""Slow, obvious scores."""

from __future__ import annotations

import math

import numpy as np


def log_softmax(row):
    row = [float(x) for x in row]
    top = max(row)
    return np.array(row) - (top + math.log(sum(math.exp(x - top) for x in row)))


def ndcg(found, gains, top=10):
    """found: document names in order; gains: {document: relevance}."""
    got = sum(gains.get(d, 0) / math.log2(place + 1) for place, d in enumerate(found[:top], 1))
    best = sum(g / math.log2(place + 1) for place, g in enumerate(sorted(gains.values(), reverse=True)[:top], 1))
    return got / best


def reciprocal_rank(found, gains, top=10):
    return next((1 / place for place, d in enumerate(found[:top], 1) if gains.get(d, 0) > 0), 0.0)


def f1_macro(predicted, truth):
    scores = []
    for label in sorted({*predicted, *truth}):
        hit = sum(p == t == label for p, t in zip(predicted, truth))
        scores.append(2 * hit / (sum(p == label for p in predicted) + sum(t == label for t in truth)))
    return sum(scores) / len(scores)

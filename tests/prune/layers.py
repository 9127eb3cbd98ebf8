"""Layers with correlated inputs, as real ones have."""

from __future__ import annotations

import numpy as np

from aerogel.calibrate import Statistics
from aerogel.prune import Pattern, parse_pattern

#: Every kind of pattern, at a sparsity.
PATTERNS = ["unstructured", "1x4", "2x1", "4x1", "2:4", "4:8", "3:5", "8:64", "8:64x4"]


def pattern_of(name: str, sparsity: float) -> Pattern:
    return parse_pattern(name) if ":" in name else parse_pattern(name, sparsity)


def layer(n: int, k: int, seed: int = 0, tokens: int | None = None) -> tuple[np.ndarray, Statistics]:
    """A weight [n,k] and the statistics of `tokens` inputs (3 k unless given) near a subspace, some of them large."""
    random = np.random.default_rng(seed)
    tokens = 3 * k if tokens is None else tokens
    basis = random.standard_normal((max(1, k // 4), k))
    x = random.standard_normal((tokens, len(basis))) @ basis + 0.5 * random.standard_normal((tokens, k))
    x *= np.exp(random.standard_normal(k))
    weight = random.standard_normal((n, k)).astype(np.float32)
    return weight, Statistics.of(x.astype(np.float32))


def error(weight: np.ndarray, value: np.ndarray, gram: np.ndarray) -> float:
    """tr((W-V) G (W-V)^T) beside tr(W G W^T)."""
    weight, gram = weight.astype(np.float64), gram.astype(np.float64)
    change = weight - value
    return float(np.sum(change @ gram * change) / np.sum(weight @ gram * weight))

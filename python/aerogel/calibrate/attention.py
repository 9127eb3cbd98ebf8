"""Attention for calibration: the portable reference of the engine is too slow for it, the fast ones differ by CPU."""

from __future__ import annotations

import numpy as np

#: Scores that are in memory at once.
SCORES = 1 << 21


def attention(
    qkv: np.ndarray, offsets: np.ndarray, heads: int, kv_heads: int, head_dim: int, causal: bool, scale: float
) -> np.ndarray:
    """softmax(scale q k^T) v of every head and sequence (arXiv 1706.03762), sequences of one length together.

    Args:
        qkv: float32 [T, (heads + 2 kv_heads) d]: q | k | v. Several query heads may share one of keys and values.
        offsets: int64 [S+1]: the tokens of sequence s are offsets[s] to offsets[s+1].
        causal: a token sees itself and what is before it.

    Returns:
        float32 [T, heads d].
    """
    out = np.empty((len(qkv), heads * head_dim), np.float32)
    lengths = np.diff(offsets)
    for length in np.unique(lengths):
        starts = offsets[:-1][lengths == length]
        step = max(1, SCORES // int(heads * length * length))
        hidden = np.triu(np.full((length, length), -np.inf, np.float32), 1) if causal else None
        for first in range(0, len(starts), step):
            rows = starts[first : first + step, None] + np.arange(length)  # [B, L]
            x = qkv[rows].reshape(len(rows), length, heads + 2 * kv_heads, head_dim).transpose(0, 2, 1, 3)
            q, k, v = np.split(x, [heads, heads + kv_heads], axis=1)  # [B, heads or kv_heads, L, d]
            q = q.reshape(len(rows), kv_heads, heads // kv_heads, length, head_dim)
            scores = (q * np.float32(scale)) @ k[:, :, None].swapaxes(-1, -2)  # [B, kv_heads, group, L, L]
            if hidden is not None:
                scores += hidden
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=-1, keepdims=True)
            y = (scores @ v[:, :, None]).reshape(len(rows), heads, length, head_dim)
            out[rows] = y.transpose(0, 2, 1, 3).reshape(len(rows), length, heads * head_dim)
    return out

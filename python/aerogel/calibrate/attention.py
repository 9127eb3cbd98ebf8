"""Attention for calibration: the portable reference of the engine is too slow for it, the fast ones differ by CPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Scores that are in memory at once.
SCORES = 1 << 21


@dataclass(frozen=True)
class Positions:
    """What is multiplied with queries and keys by distance; `Program.disentangled_attention` says how.

    Args:
        rows: int32 [2R+1], by distance.
        keys: float32 [P, heads d], or None.
        queries: float32 [P, heads d], or None.
    """

    rows: np.ndarray
    keys: np.ndarray | None
    queries: np.ndarray | None

    def products(self, q: np.ndarray, k: np.ndarray) -> np.ndarray:
        """[B, heads, L, d] twice -> [B, heads, L, L], of queries and keys."""
        _, heads, length, d = q.shape
        reach = len(self.rows) // 2
        index = self.rows[np.clip(_away(length), -reach, reach) + reach]  # [L, L]: query, key
        found = np.zeros((*q.shape[:3], length), np.float32)
        if self.keys is not None:
            by_query = q @ self.keys.reshape(-1, heads, d).transpose(1, 2, 0)  # [B, heads, L, P]
            found += np.take_along_axis(by_query, index[None, None], axis=3)
        if self.queries is not None:
            by_key = k @ self.queries.reshape(-1, heads, d).transpose(1, 2, 0)
            found += np.take_along_axis(by_key, index.T[None, None], axis=3).swapaxes(2, 3)
        return found


def _away(length: int) -> np.ndarray:
    """[L, L]: how far a key is behind a query."""
    return np.arange(length)[None, :] - np.arange(length)[:, None]


@dataclass(frozen=True)
class Scores:
    """What becomes of the products of queries and keys; `Program.attention` says how.

    Args:
        scale: of the products.
        causal: a token sees itself and what is before it.
        window: a token sees those at this distance at most; None: any.
        softcap: 0: none.
        bias: float32 [heads, 2R+1], by distance.
        slopes: float32 [heads].
        positions: what else is multiplied; then every head has keys of its own.
    """

    scale: float
    causal: bool = False
    window: int | None = None
    softcap: float = 0.0
    bias: np.ndarray | None = None
    slopes: np.ndarray | None = None
    positions: Positions | None = None

    def added(self, length: int) -> np.ndarray | None:
        """What is added to the scores of a sequence, [heads or 1, L, L]: -inf where a token does not see another."""
        away = _away(length)
        parts = []
        if self.causal or self.window is not None:
            window = length if self.window is None else self.window
            hidden = np.abs(away) > window
            parts.append(
                np.where(hidden | (away > 0) if self.causal else hidden, np.float32(-np.inf), np.float32(0))[None]
            )
        if self.bias is not None:
            reach = self.bias.shape[1] // 2
            parts.append(self.bias[:, np.clip(away, -reach, reach) + reach])
        if self.slopes is not None:
            parts.append(-self.slopes[:, None, None] * np.abs(away).astype(np.float32))
        return sum(parts[1:], parts[0]) if parts else None


def attention(qkv: np.ndarray, offsets: np.ndarray, heads: int, kv_heads: int, head_dim: int, by: Scores) -> np.ndarray:
    """softmax(scale q k^T) v of every head and sequence (arXiv 1706.03762), sequences of one length together.

    Args:
        qkv: float32 [T, (heads + 2 kv_heads) d]: q | k | v. Several query heads may share one of keys and values.
        offsets: int64 [S+1]: the tokens of sequence s are offsets[s] to offsets[s+1].
        by: what is added to the scores, and the like.

    Returns:
        float32 [T, heads d].
    """
    out = np.empty((len(qkv), heads * head_dim), np.float32)
    lengths = np.diff(offsets)
    for length in np.unique(lengths):
        starts = offsets[:-1][lengths == length]
        step = max(1, SCORES // int(heads * length * length))
        added = by.added(int(length))
        for first in range(0, len(starts), step):
            rows = starts[first : first + step, None] + np.arange(length)  # [B, L]
            x = qkv[rows].reshape(len(rows), length, heads + 2 * kv_heads, head_dim).transpose(0, 2, 1, 3)
            q, k, v = np.split(x, [heads, heads + kv_heads], axis=1)  # [B, heads or kv_heads, L, d]
            q = q.reshape(len(rows), kv_heads, heads // kv_heads, length, head_dim)
            products = (q * np.float32(by.scale)) @ k[:, :, None].swapaxes(-1, -2)  # [B, kv_heads, group, L, L]
            scores = products.reshape(len(rows), heads, length, length)
            if by.positions is not None:
                scores += np.float32(by.scale) * by.positions.products(x[:, :heads], k)
            if by.softcap:
                scores = np.float32(by.softcap) * np.tanh(scores / np.float32(by.softcap))
            if added is not None:
                scores += added
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=-1, keepdims=True)
            y = (scores.reshape(products.shape) @ v[:, :, None]).reshape(len(rows), heads, length, head_dim)
            out[rows] = y.transpose(0, 2, 1, 3).reshape(len(rows), length, heads * head_dim)
    return out

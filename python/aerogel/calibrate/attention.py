"""Attention and its gradient, for `gradients.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Scores that are in memory at once.
SCORES = 1 << 21
#: Queries that are computed together at least, where a window would allow few.
QUERIES = 64


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

    def products(self, q: np.ndarray, k: np.ndarray, away: np.ndarray) -> np.ndarray:
        """[B, heads, Q, d] and [B, heads, K, d] -> [B, heads, Q, K]; away: int [Q, K], how far a key is behind a query."""
        _, heads, queries, d = q.shape
        reach = len(self.rows) // 2
        index = self.rows[np.clip(away, -reach, reach) + reach]
        found = np.zeros((*q.shape[:2], queries, k.shape[2]), np.float32)
        if self.keys is not None:
            by_query = q @ self.keys.reshape(-1, heads, d).transpose(1, 2, 0)  # [B, heads, Q, P]
            found += np.take_along_axis(by_query, index[None, None], axis=3)
        if self.queries is not None:
            by_key = k @ self.queries.reshape(-1, heads, d).transpose(1, 2, 0)
            found += np.take_along_axis(by_key, index.T[None, None], axis=3).swapaxes(2, 3)
        return found

    def products_back(
        self, g: np.ndarray, heads: int, away: np.ndarray
    ) -> tuple[np.ndarray | float, np.ndarray | float]:
        """The gradients of q and k; g: that of the products, [B, heads, Q, K]."""
        reach = len(self.rows) // 2
        index = self.rows[np.clip(away, -reach, reach) + reach]  # [Q, K]
        found: list[np.ndarray | float] = []
        for table, part, at in ((self.keys, g, index), (self.queries, g.swapaxes(2, 3), index.T)):
            if table is None:
                found.append(0.0)
                continue
            by_row = np.empty((*part.shape[:3], len(table)), np.float32)  # [B, heads, Q or K, P]
            for i, row in enumerate(at):
                by_row[:, :, i] = part[:, :, i] @ (row[:, None] == np.arange(len(table))).astype(np.float32)
            found.append(by_row @ table.reshape(len(table), heads, -1).transpose(1, 0, 2))
        return found[0], found[1]


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

    def queries(self, length: int, heads: int) -> int:
        """How many queries of a sequence are computed at once."""
        fitting = max(1, min(length, SCORES // (heads * length)))
        return fitting if self.window is None else min(fitting, max(QUERIES, self.window))

    def seen(self, queries: slice, length: int) -> slice:
        """The keys that any of some queries sees."""
        window = length if self.window is None else self.window
        end = queries.stop if self.causal else queries.stop + window
        return slice(max(0, queries.start - window), min(length, end))

    def added(self, away: np.ndarray) -> np.ndarray | None:
        """What is added to scores, [heads or 1, Q, K]: -inf where a token does not see another; away: int [Q, K], how far a
        key is behind a query."""
        parts = []
        if self.causal or self.window is not None:
            hidden = np.zeros(away.shape, bool) if self.window is None else np.abs(away) > self.window
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
    for length in np.unique(lengths).tolist():
        starts = offsets[:-1][lengths == length]
        block = by.queries(length, heads)
        for begin in range(0, length, block):
            queries = slice(begin, min(begin + block, length))
            keys = by.seen(queries, length)
            away = np.arange(keys.start, keys.stop)[None, :] - np.arange(queries.start, queries.stop)[:, None]
            added = by.added(away)
            step = max(1, SCORES // (heads * away.size))
            for first in range(0, len(starts), step):
                at = starts[first : first + step, None]
                rows = at + np.arange(queries.start, queries.stop)  # [B, Q]
                q = _heads_of(qkv[rows, : heads * head_dim], heads)
                k, v = np.split(
                    _heads_of(qkv[at + np.arange(keys.start, keys.stop), heads * head_dim :], 2 * kv_heads), 2, axis=1
                )
                y = _attention(q, k, v, by, away, added)
                out[rows] = y.transpose(0, 2, 1, 3).reshape(*rows.shape, heads * head_dim)
    return out


def _heads_of(x: np.ndarray, heads: int) -> np.ndarray:
    """[B, L, heads d] -> [B, heads, L, d]"""
    batch, length, width = x.shape
    split: np.ndarray = x.reshape(batch, length, heads, width // heads)
    turned: np.ndarray = split.transpose(0, 2, 1, 3)
    return turned


def _attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, by: Scores, away: np.ndarray, added: np.ndarray | None
) -> np.ndarray:
    """[B, heads, Q, d] and twice [B, kv_heads, K, d] -> [B, heads, Q, d]; `away` and `added` as in `Scores`."""
    batch, heads, queries, d = q.shape
    grouped = q.reshape(batch, k.shape[1], -1, queries, d)
    products = (grouped * np.float32(by.scale)) @ k[:, :, None].swapaxes(-1, -2)  # [B, kv_heads, group, Q, K]
    scores = products.reshape(batch, heads, queries, -1)
    if by.positions is not None:
        scores += np.float32(by.scale) * by.positions.products(q, k, away)
    if by.softcap:
        scores = np.float32(by.softcap) * np.tanh(scores / np.float32(by.softcap))
    if added is not None:
        scores += added
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return np.asarray((scores.reshape(products.shape) @ v[:, :, None]).reshape(q.shape), np.float32)


def attention_back(
    qkv: np.ndarray, g: np.ndarray, offsets: np.ndarray, heads: int, kv_heads: int, head_dim: int, by: Scores
) -> np.ndarray:
    """The gradient of `attention`'s input, float32 [T, (heads + 2 kv_heads) d]; g: that of its result, [T, heads d]."""
    found = np.zeros_like(qkv)
    lengths = np.diff(offsets)
    for length in np.unique(lengths).tolist():
        starts = offsets[:-1][lengths == length]
        away = np.arange(length)[None, :] - np.arange(length)[:, None]
        added = by.added(away)
        step = max(1, SCORES // (heads * length * length))
        for first in range(0, len(starts), step):
            rows = starts[first : first + step, None] + np.arange(length)
            whole = _heads_of(qkv[rows], heads + 2 * kv_heads)
            q, k, v = np.split(whole, [heads, heads + kv_heads], axis=1)
            parts = _attention_back(q, k, v, _heads_of(g[rows], heads), by, away, added)
            joined = np.concatenate(parts, axis=1).transpose(0, 2, 1, 3)
            found[rows] = joined.reshape(*rows.shape, -1)
    return found


def _attention_back(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, by: Scores, away: np.ndarray, added: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of q, k and v; shapes as in `_attention`."""
    batch, heads, length, d = q.shape
    group = (batch, k.shape[1], -1, length)  # [B, kv_heads, group, L, .]
    scale = np.float32(by.scale)
    scores = ((q.reshape(*group, d) * scale) @ k[:, :, None].swapaxes(-1, -2)).reshape(batch, heads, length, length)
    if by.positions is not None:
        scores += scale * by.positions.products(q, k, away)
    slope = None
    if by.softcap:
        bent = np.tanh(scores / np.float32(by.softcap))
        scores, slope = np.float32(by.softcap) * bent, 1 - bent * bent
    if added is not None:
        scores = scores + added
    scores -= scores.max(axis=-1, keepdims=True)
    share = np.exp(scores, out=scores)
    share /= share.sum(axis=-1, keepdims=True)
    by_head = g.reshape(*group, d)
    dv = (share.reshape(*group, length).swapaxes(-1, -2) @ by_head).sum(axis=2)
    ds = (by_head @ v[:, :, None].swapaxes(-1, -2)).reshape(share.shape)
    ds = share * (ds - (ds * share).sum(axis=-1, keepdims=True))
    ds = (ds if slope is None else ds * slope) * scale
    grouped = ds.reshape(*group, length)
    dq = (grouped @ k[:, :, None]).reshape(q.shape)
    dk = (grouped.swapaxes(-1, -2) @ q.reshape(*group, d)).sum(axis=2)
    if by.positions is not None:
        more_q, more_k = by.positions.products_back(ds, heads, away)
        dq, dk = dq + more_q, dk + more_k
    return dq, dk, dv

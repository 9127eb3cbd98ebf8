"""Attention by its definition, query by query, in double precision."""

import numpy as np


def attention(qkv, offsets, heads, kv_heads, d, causal, scale, window=None, softcap=0.0, bias=None, slopes=None):
    """As `Program.attention` says; [T, heads d]."""
    out = np.zeros((len(qkv), heads * d))
    q, k, v = np.split(np.asarray(qkv, np.float64), [heads * d, (heads + kv_heads) * d], axis=1)
    q, k, v = q.reshape(-1, heads, d), k.reshape(-1, kv_heads, d), v.reshape(-1, kv_heads, d)
    for begin, end in zip(offsets, offsets[1:]):
        for t in range(begin, end):
            seen = np.arange(begin, t + 1 if causal else end)
            if window is not None:
                seen = seen[np.abs(seen - t) <= window]
            for h in range(heads):
                scores = scale * k[seen, h // (heads // kv_heads)] @ q[t, h]
                if softcap:
                    scores = softcap * np.tanh(scores / softcap)
                if bias is not None:
                    reach = bias.shape[1] // 2
                    scores = scores + bias[h, np.clip(seen - t, -reach, reach) + reach]
                if slopes is not None:
                    scores = scores - slopes[h] * np.abs(seen - t)
                p = np.exp(scores - scores.max())
                out[t, h * d : (h + 1) * d] = p / p.sum() @ v[seen, h // (heads // kv_heads)]
    return out

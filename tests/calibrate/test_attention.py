import numpy as np
import pytest

from aerogel.calibrate.attention import attention


def slow(qkv, offsets, heads, kv_heads, d, causal, scale):
    out = np.zeros((len(qkv), heads * d))
    qkv = qkv.astype(np.float64)
    for begin, end in zip(offsets, offsets[1:]):
        for t in range(begin, end):
            for h in range(heads):
                q = qkv[t, h * d : (h + 1) * d]
                g = h // (heads // kv_heads)
                seen = range(begin, t + 1 if causal else end)
                scores = np.array([scale * q @ qkv[u, (heads + g) * d : (heads + g + 1) * d] for u in seen])
                p = np.exp(scores - scores.max())
                p /= p.sum()
                values = [qkv[u, (heads + kv_heads + g) * d : (heads + kv_heads + g + 1) * d] for u in seen]
                out[t, h * d : (h + 1) * d] = p @ np.array(values)
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (3, 1)])
def test_against_the_definition(heads, kv_heads, causal):
    rng = np.random.default_rng(heads)
    offsets = np.cumsum([0, 3, 1, 7, 3, 3, 12])
    qkv = 3 * rng.standard_normal((offsets[-1], (heads + 2 * kv_heads) * 8), np.float32)
    got = attention(qkv, offsets, heads, kv_heads, 8, causal, 0.3)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, slow(qkv, offsets, heads, kv_heads, 8, causal, 0.3), atol=1e-5)


def test_many_sequences_of_a_length_are_cut(monkeypatch):
    rng = np.random.default_rng(0)
    qkv, offsets = rng.standard_normal((40, 24), np.float32), np.arange(0, 41, 4)
    whole = attention(qkv, offsets, 2, 2, 4, False, 0.5)
    monkeypatch.setattr("aerogel.calibrate.attention.SCORES", 70)
    np.testing.assert_allclose(attention(qkv, offsets, 2, 2, 4, False, 0.5), whole, atol=1e-6)

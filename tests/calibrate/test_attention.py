import numpy as np
import pytest

from aerogel.calibrate.attention import Positions, Scores, attention

from ..reference.attention import attention as definition


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (3, 1)])
def test_against_the_definition(heads, kv_heads, causal):
    rng = np.random.default_rng(heads)
    offsets = np.cumsum([0, 3, 1, 7, 3, 3, 12])
    qkv = 3 * rng.standard_normal((offsets[-1], (heads + 2 * kv_heads) * 8), np.float32)
    got = attention(qkv, offsets, heads, kv_heads, 8, Scores(0.3, causal))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, definition(qkv, offsets, heads, kv_heads, 8, causal, 0.3), atol=1e-5)


def test_many_sequences_of_a_length_are_cut(monkeypatch):
    rng = np.random.default_rng(0)
    qkv, offsets = rng.standard_normal((40, 24), np.float32), np.arange(0, 41, 4)
    whole = attention(qkv, offsets, 2, 2, 4, Scores(0.5))
    monkeypatch.setattr("aerogel.calibrate.attention.SCORES", 70)
    np.testing.assert_allclose(attention(qkv, offsets, 2, 2, 4, Scores(0.5)), whole, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 0, 2, 100])
def test_queries_are_cut_and_see_what_they_saw(monkeypatch, causal, window):
    """Bias, slopes and positions by distance too."""
    rng = np.random.default_rng(0)
    qkv, offsets = rng.standard_normal((60, 24), np.float32), np.array([0, 25, 50, 60])
    bias, slopes = rng.standard_normal((2, 7), np.float32), np.float32([0.3, 0.1])
    tables = rng.standard_normal((2, 7, 8), np.float32)
    rows = np.array([0, 0, 1, 3, 4, 6, 6], np.int32)
    by = Scores(0.5, causal, window, 4.0, bias, slopes, Positions(rows, tables[0], tables[1]))
    whole = attention(qkv, offsets, 2, 2, 4, by)
    monkeypatch.setattr("aerogel.calibrate.attention.SCORES", 300)
    monkeypatch.setattr("aerogel.calibrate.attention.QUERIES", 3)
    sizes = []
    softmax = np.exp
    monkeypatch.setattr(np, "exp", lambda x, out: sizes.append(x.size) or softmax(x, out=out))
    np.testing.assert_allclose(attention(qkv, offsets, 2, 2, 4, by), whole, atol=1e-5)
    assert max(sizes) <= 300
    if window == 2:
        assert sum(sizes) <= 2 * 60 * (3 + 2 * 2)


def test_a_window_hides_what_is_beyond():
    rng = np.random.default_rng(0)
    qkv, offsets = rng.standard_normal((300, 12), np.float32), np.array([0, 300])
    got = attention(qkv, offsets, 1, 1, 4, Scores(0.5, window=7))
    q, k, v = (part.astype(np.float64) for part in np.split(qkv, 3, axis=1))
    scores = np.where(np.abs(np.subtract.outer(np.arange(300), np.arange(300))) <= 7, 0.5 * q @ k.T, -np.inf)
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(got, p / p.sum(axis=1, keepdims=True) @ v, atol=1e-5)

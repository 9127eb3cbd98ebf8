import numpy as np
import pytest

from aerogel.calibrate.attention import Scores, attention

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

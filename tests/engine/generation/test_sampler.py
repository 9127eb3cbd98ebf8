"""The choice of a token in C++: as NumPy and Transformers choose, and the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from aerogel._core import Sampler, log_probabilities
from aerogel.errors import DataError, ShapeError


def reference(logits, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0):
    """Probabilities, with the filters in Transformers' order, each after a softmax of what is left."""
    x = logits.astype(np.float64) / temperature

    def softmax():
        e = np.exp(x - x.max())
        return e / e.sum()

    if top_k:
        x[x < np.sort(x)[-top_k]] = -np.inf
    if top_p < 1:
        order = np.argsort(-x, kind="stable")
        before = np.cumsum(softmax()[order]) - softmax()[order]
        x[order[before >= top_p]] = -np.inf
    if min_p:
        p = softmax()
        x[p < min_p * p.max()] = -np.inf
    if typical_p < 1:
        p = softmax()
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -np.nansum(p * np.log(p))
            far = np.abs(-np.log(p) - entropy)
        order = np.argsort(far, kind="stable")
        last = int((np.cumsum(p[order]) < typical_p).sum())
        x[far > far[order[min(last, len(p) - 1)]]] = -np.inf
    return softmax()


def drawn(logits, count=3000, **options):
    """How often each token is chosen; the place of the random number goes on, as in a text."""
    sampler = Sampler(seed=7, **options)
    found = np.zeros(len(logits))
    for _ in range(count):
        token = sampler.choose(logits.copy())
        found[token] += 1
        sampler.see(token, True)
    return found / count


FILTERS = [
    {},
    {"temperature": 0.5},
    {"temperature": 2.0},
    {"top_k": 3},
    {"top_p": 0.7},
    {"top_p": 0.05},
    {"min_p": 0.3},
    {"typical_p": 0.5},
    {"top_k": 8, "top_p": 0.8, "min_p": 0.2, "typical_p": 0.9, "temperature": 1.5},
    {"top_k": 1},
    {"min_p": 1.0},
    {"top_p": 0.999999},
]


@pytest.mark.parametrize("options", FILTERS, ids=str)
@pytest.mark.parametrize("size", [12, 700])
def test_the_distribution(options, size):
    random = np.random.default_rng(size)
    logits = (random.standard_normal(size) * 3).astype(np.float32)
    p = reference(logits, **options)
    found = drawn(logits, **{"temperature": 1.0, **options})
    assert not found[p < 1e-12].any(), "a token that is filtered out was chosen"
    # Pearson's statistic over tokens that are expected often enough; its standard deviation is sqrt(2 f).
    often = p * 3000 > 5
    if often.sum() > 1:
        statistic = 3000 * (((found - p)[often]) ** 2 / p[often]).sum()
        assert statistic < often.sum() + 5 * np.sqrt(2 * often.sum()) + 5


@pytest.mark.parametrize("options", FILTERS, ids=str)
def test_what_the_filters_leave(options):
    """Each token that is left is reached: the logits of all but one are lowered together with what decides nothing."""
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers").generation.logits_process
    logits = (np.random.default_rng(3).standard_normal(40) * 2).astype(np.float32)
    x = torch.tensor(logits)[None] / options.get("temperature", 1.0)
    for name, kind in (
        ("top_k", process.TopKLogitsWarper),
        ("top_p", process.TopPLogitsWarper),
        ("min_p", process.MinPLogitsWarper),
        ("typical_p", process.TypicalLogitsWarper),
    ):
        if name in options:
            x = kind(options[name])(torch.zeros((1, 1), dtype=torch.long), x)
    wanted = torch.softmax(x, -1)[0].numpy()
    np.testing.assert_allclose(reference(logits, **options), wanted, atol=1e-6)
    found = drawn(logits, 4000, **{"temperature": 1.0, **options})
    assert set(np.flatnonzero(found)) >= set(np.flatnonzero(wanted > 4e-3))
    assert set(np.flatnonzero(found)) <= set(np.flatnonzero(wanted))


def test_a_seed_gives_the_same_everywhere():
    logits = np.sin(np.arange(1000, dtype=np.float32) * 0.37)
    sampler, found = Sampler(temperature=1.0, seed=123456789012345), []
    for _ in range(8):
        found.append(sampler.choose(logits.copy()))
        assert sampler.choose(logits.copy()) == found[-1], "the same place, the same number"
        sampler.see(found[-1], True)
    assert found == SEEDED


SEEDED = [585, 192, 141, 666, 989, 3, 632, 954]


def test_greedy():
    logits = np.array([1, 3, 3, -1], np.float32)
    assert Sampler().choose(logits.copy()) == 1
    assert Sampler(temperature=1e-30).choose(logits.copy()) in (1, 2)
    assert Sampler(temperature=1.0).choose(np.array([1, np.inf, 0], np.float32)) == 1
    assert Sampler().choose(np.array([np.nan, 2, 3], np.float32)) == 2
    big = np.zeros(150_001, np.float32)
    big[[70_000, 150_000]] = 1
    assert Sampler().choose(big) == 70_000


def test_penalties():
    def changed(text, written=(), **options):
        logits = np.array([1.0, -1.0, 2.0, -2.0], np.float32)
        sampler = Sampler(**options)
        for token in text:
            sampler.see(token, False)
        for token in written:
            sampler.see(token, True)
        sampler.choose(logits)
        return logits.tolist()

    assert changed([0, 1], repetition=2.0) == [0.5, -2.0, 2.0, -2.0]
    assert changed([0, 1], [3, 3], repetition=2.0) == [0.5, -2.0, 2.0, -4.0]
    assert changed([0], [2, 2, 3], presence=0.5, frequency=0.25) == [1.0, -1.0, 1.0, -2.75]
    assert changed([0], repetition=2.0, bias=[(0, 3.0)]) == [2.0, -1.0, 2.0, -2.0]


def test_what_is_ruled_out():
    logits = np.arange(70, dtype=np.float32)
    assert Sampler().choose(logits.copy(), [69, 68, 1000, -3]) == 67
    allowed = np.zeros(3, np.uint32)
    allowed[[0, 1]] = 1 << 5, 1 << 9
    assert Sampler().choose(logits.copy(), [], allowed) == 41
    assert Sampler().choose(logits.copy(), [41], allowed) == 5
    with pytest.raises(DataError, match="there is no token to go on with"):
        Sampler().choose(logits.copy(), [5, 41], allowed)
    with pytest.raises(ShapeError, match="allowed: expected 3"):
        Sampler().choose(logits.copy(), [], allowed[:2])
    with pytest.raises(DataError, match="logit_bias: expected tokens below 70, got 70"):
        Sampler(bias=[(70, 1.0)]).choose(logits.copy())
    with pytest.raises(ShapeError, match="logits"):
        Sampler().choose(logits.astype(np.float64))


def test_logarithms_of_probabilities():
    logits = (np.random.default_rng(0).standard_normal(50_000) * 4).astype(np.float32)
    wanted = logits - logits.max() - np.log(np.exp(logits.astype(np.float64) - logits.max()).sum())
    of, top = log_probabilities(logits, [3, 49_999], 5)
    np.testing.assert_allclose(of, wanted[[3, 49_999]], rtol=1e-6)
    order = np.argsort(-wanted, kind="stable")[:5]
    assert [token for token, _ in top] == order.tolist()
    np.testing.assert_allclose([value for _, value in top], wanted[order], rtol=1e-5)
    assert len(log_probabilities(logits[:3].copy(), [], 9)[1]) == 3
    with pytest.raises(DataError, match="tokens: expected ids below 3"):
        log_probabilities(logits[:3].copy(), [3])

import numpy as np
import pytest

from aerogel.errors import RecipeError, ShapeError
from aerogel.structure import compensate


def example(seed, tokens=200, k=24, n=10):
    """Inputs that depend on each other, with a mean, and weights."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((tokens, k)) @ random.standard_normal((k, k)) + 2 * random.standard_normal(k)
    w = random.standard_normal((n, k)).astype(np.float32)
    kept = np.sort(random.choice(k, k // 2, replace=False))
    return x, (x.T @ x / tokens).astype(np.float32), w, kept


def lost(x, w, kept, new, shift=0.0):
    return np.square(x @ w.T - (x[:, kept] @ new.T + shift)).mean()


@pytest.mark.parametrize("seed", range(4))
def test_without_damping_it_is_least_squares(seed):
    x, gram, w, kept = example(seed)
    best = np.linalg.lstsq(x[:, kept], x @ w.T, rcond=None)[0].T
    found = compensate(w, gram, kept, damping=0)
    assert found.shift is None and found.weight.dtype == np.float32
    np.testing.assert_allclose(found.weight, best, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("seed", range(4))
def test_with_a_mean_it_is_least_squares_with_a_constant(seed):
    x, gram, w, kept = example(seed)
    best = np.linalg.lstsq(np.c_[x[:, kept], np.ones(len(x))], x @ w.T, rcond=None)[0].T
    found = compensate(w, gram, kept, damping=0, mean=x.mean(0).astype(np.float32))
    np.testing.assert_allclose(found.weight, best[:, :-1], rtol=5e-3, atol=5e-3)
    np.testing.assert_allclose(found.shift, best[:, -1], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("seed", range(4))
def test_inputs_that_have_changed_are_made_up_for(seed):
    x, _, w, kept = example(seed)
    changed = x + np.random.default_rng(seed).standard_normal(x.shape)
    gram, cross = (changed.T @ changed / len(x)).astype(np.float32), (x.T @ changed / len(x)).astype(np.float32)
    best = np.linalg.lstsq(changed[:, kept], x @ w.T, rcond=None)[0].T
    np.testing.assert_allclose(compensate(w, gram, kept, 0, cross=cross).weight, best, rtol=2e-3, atol=2e-3)
    for damping in (0.01, 1.0):
        found = compensate(w, gram, kept, damping, cross=cross).weight
        plain = np.square(x @ w.T - changed[:, kept] @ w[:, kept].T).mean()
        assert np.square(x @ w.T - changed[:, kept] @ found.T).mean() <= plain * (1 + 1e-5)
    same = compensate(w, gram, kept, cross=gram).weight
    np.testing.assert_allclose(same, compensate(w, gram, kept).weight, atol=1e-4)
    with pytest.raises(RecipeError, match="exclude each other"):
        compensate(w, gram, kept, mean=x.mean(0).astype(np.float32), cross=cross)


@pytest.mark.parametrize("damping", [0.001, 0.01, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("seed", range(3))
def test_it_never_loses_more_than_doing_nothing(seed, damping):
    x, gram, w, kept = example(seed)
    mean = x.mean(0).astype(np.float32)
    plain = lost(x, w, kept, w[:, kept])
    once = compensate(w, gram, kept, damping)
    centred = compensate(w, gram, kept, damping, mean)
    assert lost(x, w, kept, once.weight) <= plain * (1 + 1e-5)
    assert lost(x, w, kept, centred.weight, centred.shift) <= plain * (1 + 1e-5)
    assert lost(x, w, kept, compensate(w, gram, kept, 0).weight) <= lost(x, w, kept, once.weight) * (1 + 1e-5)


def test_much_damping_leaves_the_old_weights():
    _, gram, w, kept = example(0)
    np.testing.assert_allclose(compensate(w, gram, kept, damping=1e9).weight, w[:, kept], atol=1e-5)


@pytest.mark.parametrize("count", [0, 24])
def test_nothing_or_all_removed(count):
    x, gram, w, _ = example(1)
    mean = x.mean(0).astype(np.float32)
    found = compensate(w, gram, np.arange(count), mean=mean)
    assert np.array_equal(found.weight, w[:, :count])
    np.testing.assert_allclose(found.shift, w @ mean if count == 0 else np.zeros(10), rtol=1e-4, atol=1e-4)


def test_inputs_that_are_never_seen():
    """Too little text: channels that were always 0, and fewer tokens than channels."""
    random = np.random.default_rng(0)
    x = random.standard_normal((5, 24)).astype(np.float32)
    x[:, :6] = 0
    gram, w = x.T @ x / 5, random.standard_normal((3, 24)).astype(np.float32)
    kept = np.arange(0, 24, 2)
    found = compensate(w, gram, kept)
    assert np.isfinite(found.weight).all()
    np.testing.assert_allclose(found.weight[:, :3], w[:, :6:2], atol=1e-5)  # nothing is known of them
    with pytest.raises(RecipeError, match="damping: expected more"):
        compensate(w, gram, kept, damping=0)
    assert np.array_equal(compensate(w, np.zeros((24, 24), np.float32), kept, damping=0).weight, w[:, kept])


def test_inputs_are_not_changed():
    x, gram, w, kept = example(2)
    before = [gram.copy(), w.copy(), kept.copy()]
    compensate(w, gram, kept, mean=x.mean(0).astype(np.float32))
    for now, then in zip([gram, w, kept], before):
        assert np.array_equal(now, then)


def test_shapes():
    x, gram, w, kept = example(0)
    with pytest.raises(ShapeError, match=r"gram: expected \[24, 24\], got \[23, 23\]"):
        compensate(w, gram[:23, :23], kept)
    with pytest.raises(ShapeError, match=r"mean: expected \[24\], got \[3\]"):
        compensate(w, gram, kept, mean=np.zeros(3, np.float32))

import numpy as np
import pytest

from aerogel.errors import DataError, RecipeError, ShapeError
from aerogel.prune import corrected_target


def inputs(k=24, n=8, tokens=200, seed=0):
    random = np.random.default_rng(seed)
    x = random.standard_normal((tokens, k)) @ random.standard_normal((k, k))
    p = x + 0.3 * x.std() * random.standard_normal(x.shape)
    e = random.standard_normal((tokens, n))
    return random.standard_normal((n, k)).astype(np.float32), x, p, e


def moments(x, p, e):
    tokens = len(p)
    return [(a.T @ p / tokens).astype(np.float32) for a in (p, x, e)]


def loss(target, weight, x, p, e):
    return float(np.mean((p @ target.T - x @ weight.T - e) ** 2))


def test_it_is_least_squares():
    weight, x, p, e = inputs()
    gram, cross, lacking = moments(x, p, e)
    target = corrected_target(weight, gram, cross, lacking, damping=1e-9)
    exact = np.linalg.lstsq(p, x @ weight.T + e, rcond=None)[0].T
    np.testing.assert_allclose(target, exact, rtol=1e-2, atol=1e-3)
    assert loss(target, weight, x, p, e) < loss(weight, weight, x, p, e)
    np.testing.assert_allclose(
        corrected_target(weight, gram, cross, None, 1e-9), corrected_target(weight, gram, cross, 0 * lacking, 1e-9)
    )


def test_damping_draws_to_the_weight():
    weight, x, p, e = inputs()
    distances = [
        np.linalg.norm(corrected_target(weight, *moments(x, p, e), damping=d) - weight) for d in (0.01, 1, 1e6)
    ]
    assert distances == sorted(distances, reverse=True) and distances[-1] < 1e-3


def test_nothing_lost_nothing_changed():
    weight, x, _, _ = inputs()
    gram = moments(x, x, x)[0]
    assert np.array_equal(corrected_target(weight, gram, gram), weight)


def test_fewer_tokens_than_inputs_and_zeros():
    weight, x, p, e = inputs(tokens=5)
    weight[:, 3] = 0
    target = corrected_target(weight, *moments(x, p, e))
    assert target.dtype == np.float32 and np.isfinite(target).all() and not target[:, 3].any()


def test_impossible():
    weight, x, p, e = inputs()
    gram, cross, lacking = moments(x, p, e)
    with pytest.raises(ShapeError, match=r"cross: expected \[24, 24\], got \[8, 24\]"):
        corrected_target(weight, gram, lacking)
    with pytest.raises(ShapeError, match=r"lacking: expected \[8, 24\], got \[24, 24\]"):
        corrected_target(weight, gram, cross, cross)
    with pytest.raises(DataError, match="cross: holds NaN"):
        corrected_target(weight, gram, cross * np.float32(np.nan))
    with pytest.raises(RecipeError, match="damping"):
        corrected_target(weight, gram, cross, damping=0)

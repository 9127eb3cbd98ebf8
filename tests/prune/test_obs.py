import numpy as np
import pytest

from aerogel.calibrate import Statistics
from aerogel.errors import RecipeError
from aerogel.prune import Unstructured, admm, obs
from aerogel.prune.refit import refit
from aerogel.prune.sweep import damped, inverse_factor

from ..reference import prune as reference
from .layers import PATTERNS, error, layer, pattern_of


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("k", [150, 200])
def test_as_in_the_textbook(name, k):
    weight, statistics = layer(10, k)
    pattern = pattern_of(name, 0.6)
    step = pattern.step(128)

    def keep(score, begin, end):
        return pattern.part(begin, end, weight.shape).keep(score)

    expected, mask = reference.obs(weight, statistics.gram, keep, block=step)
    pruned = obs(weight, statistics, pattern)
    assert np.array_equal(pruned.mask, mask)
    np.testing.assert_allclose(pruned.weight, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("k", [1, 2, 63, 64, 65, 200])
def test_the_factor_of_the_inverse(k):
    h = damped(layer(1, k)[1].gram, 0.01)
    u = inverse_factor(h)
    assert np.array_equal(u, np.triu(u))
    np.testing.assert_allclose(u.T @ u @ h, np.eye(k), atol=1e-8)


def test_refit_is_least_squares():
    weight, statistics = layer(12, 96)
    h = damped(statistics.gram, 0.01).astype(np.float32)
    mask = Unstructured(0.6).keep(np.abs(weight))
    exact = reference.least_squares(weight, h, mask)
    best = error(weight, exact, h)
    errors = [error(weight, refit(weight, h, mask, steps=steps), h) for steps in (0, 1, 2, 5, 20, 400)]
    assert errors == sorted(errors, reverse=True)
    assert best <= errors[-1] * (1 + 1e-6) and errors[-1] <= best * 1.001 and errors[-2] <= best * 1.1


def test_refit_of_rows_that_are_done_or_empty():
    weight, statistics = layer(4, 32)
    h = damped(statistics.gram, 0.01).astype(np.float32)
    mask = np.ones((4, 32), bool)
    mask[1] = False
    weight[2] = 0
    value = refit(weight, h, mask)
    assert not value[1].any() and not value[2].any()
    assert np.array_equal(value[[0, 3]], weight[[0, 3]])


@pytest.mark.parametrize("prune", [obs, admm])
def test_inputs_that_are_always_0(prune):
    weight, statistics = layer(8, 64)
    gram = statistics.gram.copy()
    gram[:, :16] = gram[:16] = 0
    dead = Statistics(statistics.tokens, gram, statistics.largest)
    pruned, mask = prune(weight, dead, Unstructured(0.5))
    assert np.isfinite(pruned).all()
    assert mask[:, :16].mean() < mask[:, 16:].mean()
    nothing = Statistics(1, np.zeros_like(gram), np.zeros_like(statistics.largest))
    assert np.isfinite(prune(weight, nothing, Unstructured(0.5)).weight).all()


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("prune", [obs, admm])
def test_the_unit_of_the_inputs_does_not_matter(prune, scale):
    weight, statistics = layer(8, 100)
    scaled = Statistics(statistics.tokens, statistics.gram * np.float32(scale), statistics.largest)
    assert np.array_equal(
        prune(weight, statistics, Unstructured(0.5)).mask, prune(weight, scaled, Unstructured(0.5)).mask
    )


@pytest.mark.parametrize("damping", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("prune", [obs, admm])
def test_damping(prune, damping):
    weight, statistics = layer(2, 4)
    with pytest.raises(RecipeError, match="damping: expected a positive number"):
        prune(weight, statistics, Unstructured(0.5), damping=damping)

import numpy as np
import pytest

from aerogel.errors import DataError, RecipeError, ShapeError
from aerogel.prune import Unstructured, magnitude, obs
from aerogel.prune.sweep import damped
from aerogel.quantize.compensated import compensated, importance_of
from aerogel.quantize.descent import descend

from ..prune.layers import error, layer
from ..reference import prune as reference


class Steps:
    """Multiples of a step per row and column."""

    def __init__(self, weight, levels):
        n, k = weight.shape
        groups = np.abs(weight).max(axis=1, keepdims=True) * np.linspace(1, 1.5, k)
        self.step = (groups / levels).astype(np.float32)

    def round(self, weight, begin):
        step = self.step[:, begin : begin + weight.shape[1]]
        return np.rint(weight / step) * step


@pytest.mark.parametrize("passes", [0, 2])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("sparsity", [None, 0.5])
@pytest.mark.parametrize("levels", [7, 127])
def test_on_the_grid_and_nearer_than_the_nearest(levels, sparsity, ordered, passes):
    for seed in range(3):
        weight, statistics = layer(24, 200, seed)
        mask = None if sparsity is None else magnitude(weight, None, Unstructured(sparsity)).mask
        grid = Steps(weight, levels)
        before = weight.copy()
        rounded = compensated(weight, mask, statistics.gram, grid, ordered=ordered, passes=passes)
        assert np.array_equal(weight, before) and rounded.dtype == np.float32
        assert np.array_equal(grid.round(rounded, 0), rounded)
        nearest = grid.round(weight, 0)
        if mask is not None:
            assert not rounded[~mask].any()
            nearest[~mask] = 0
        assert error(weight, rounded, statistics.gram) < 0.7 * error(weight, nearest, statistics.gram)


def test_as_in_the_textbook():
    weight, statistics = layer(6, 150)
    grid = Steps(weight, 7)
    expected, _ = reference.obs(
        weight, statistics.gram, lambda score, begin, end: np.ones(score.shape, bool), grid=grid.round
    )
    rounded = compensated(weight, None, statistics.gram, grid, ordered=False, passes=0)
    # a value near the middle of two codes may fall to either side, and all that follow with it
    assert np.mean(np.abs(rounded - expected) > 1e-4) < 0.02
    assert error(weight, rounded, statistics.gram) == pytest.approx(error(weight, expected, statistics.gram), rel=0.05)


@pytest.mark.parametrize("sparsity", [0, 0.5])
def test_each_pass_of_descent_is_nearer(sparsity):
    weight, statistics = layer(24, 200)
    pruned, mask = obs(weight, statistics, Unstructured(sparsity))
    grid = Steps(pruned, 7)
    h = damped(statistics.gram, 0.01).astype(np.float32)
    results = [compensated(pruned, mask, statistics.gram, grid, passes=passes) for passes in (0, 1, 2, 3)]
    errors = [error(pruned, result, h) for result in results]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0]
    # what is left is a minimum: no code of a column is better while all others stay
    settled = descend(pruned, results[-1], h, mask, grid, 50)
    assert np.array_equal(descend(pruned, settled, h, mask, grid, 1), settled)


def test_pruned_and_rounded_in_one_pass():
    weight, statistics = layer(24, 200)
    grid = Steps(weight, 7)
    together = obs(weight, statistics, Unstructured(0.5), grid=grid)
    assert np.count_nonzero(together.mask) == weight.size // 2
    assert np.array_equal(grid.round(together.weight, 0) * together.mask, together.weight)
    apart = obs(weight, statistics, Unstructured(0.5))
    nearest = grid.round(apart.weight, 0)
    assert error(weight, together.weight, statistics.gram) < error(weight, nearest, statistics.gram)


def test_a_grid_without_zero():
    weight, statistics = layer(4, 16)

    class Odd:
        def round(self, weight, begin):
            return np.where(weight < 0, np.float32(-1), np.float32(1))

    mask = magnitude(weight, None, Unstructured(0.5)).mask
    rounded = compensated(weight, mask, statistics.gram, Odd())
    assert np.array_equal(rounded != 0, mask)


def test_impossible():
    weight, statistics = layer(4, 16)
    grid = Steps(weight, 7)
    with pytest.raises(ShapeError, match=r"gram: expected \[16, 16\], got \[8, 8\]"):
        compensated(weight, None, statistics.gram[:8, :8], grid)
    with pytest.raises(ShapeError, match=r"mask: expected bool \[4, 16\], got bool \[4, 8\]"):
        compensated(weight, np.ones((4, 8), bool), statistics.gram, grid)
    with pytest.raises(DataError, match="gram: holds NaN"):
        compensated(weight, None, statistics.gram * np.float32(np.nan), grid)
    with pytest.raises(DataError, match="weight: holds NaN"):
        compensated(weight * np.float32(np.nan), None, statistics.gram, grid)
    with pytest.raises(RecipeError, match="damping"):
        compensated(weight, None, statistics.gram, grid, damping=0)


def test_importance_is_what_an_error_costs_after_all_others_made_good():
    _, statistics = layer(3, 20)
    h = damped(statistics.gram, 0.01)
    got = importance_of(statistics.gram)
    for k in range(20):
        others = [i for i in range(20) if i != k]
        # the least of e^T H e with e[k] = 1
        best = np.linalg.solve(h[np.ix_(others, others)], -h[others, k])
        e = np.insert(best, k, 1.0)
        assert got[k] == pytest.approx(e @ h @ e, rel=1e-4)

"""Pruning where errors of results count by how much they move the model's output."""

import dataclasses

import numpy as np
import pytest

from aerogel.calibrate import Statistics
from aerogel.errors import DataError, ShapeError
from aerogel.prune import Unstructured, admm
from aerogel.prune.refit import refit, refit_rows

from .layers import layer


def sensitive(rows: int, rank: int = 6) -> np.ndarray:
    """An output that is sensitive to few directions of the results, and to some rows more than to others."""
    random = np.random.default_rng(7)
    g = random.standard_normal((rank, rows)) * np.exp(random.standard_normal(rows))
    return (g.T @ g / rank + 0.01 * np.eye(rows)).astype(np.float32)


def moved(weight, value, gram, moves):
    """tr(S (W-V) G (W-V)^T)"""
    change = weight.astype(np.float64) - value
    return float(np.sum(moves.astype(np.float64) @ change @ gram.astype(np.float64) * change))


@pytest.mark.parametrize("pattern", [Unstructured(0.7)])
def test_the_output_moves_less(pattern):
    weight, statistics = layer(40, 60)
    moves = sensitive(40)
    plain = admm(weight, statistics, pattern)
    diagonal = admm(weight, dataclasses.replace(statistics, moves=moves.diagonal().copy()), pattern)
    whole = admm(weight, dataclasses.replace(statistics, moves=moves), pattern)
    errors = [moved(weight, pruned.weight, statistics.gram, moves) for pruned in (plain, diagonal, whole)]
    assert errors[2] < 0.8 * errors[1] < 0.8 * errors[0]
    assert np.count_nonzero(whole.mask) == np.count_nonzero(plain.mask)
    assert not whole.weight[~whole.mask].any()
    assert np.ptp(whole.mask.sum(axis=1)) > np.ptp(plain.mask.sum(axis=1))  # rows that matter keep more


def test_results_that_move_nothing_are_pruned_as_without():
    weight, statistics = layer(12, 30)
    plain = admm(weight, statistics, Unstructured(0.5))
    for moves in (np.zeros((12, 12), np.float32), np.zeros(12, np.float32), 3 * np.ones(12, np.float32)):
        same = admm(weight, dataclasses.replace(statistics, moves=moves), Unstructured(0.5))
        np.testing.assert_array_equal(same.mask, plain.mask)
        np.testing.assert_allclose(same.weight, plain.weight, rtol=1e-4, atol=1e-5)


def test_refitting_rows_together_solves_the_normal_equations():
    weight, statistics = layer(5, 12, tokens=60)
    h, moves = statistics.gram + np.eye(12, dtype=np.float32), sensitive(5, 5)
    mask = np.random.default_rng(2).random(weight.shape) < 0.5
    value = refit_rows(weight, h, moves, mask, refit(weight, h, mask), steps=200)
    assert not value[~mask].any()
    slope = np.where(mask, moves @ (weight - value) @ h, 0)
    assert np.abs(slope).max() < 1e-3 * np.abs(moves @ weight @ h).max()


def test_moves_that_are_none():
    weight, statistics = layer(6, 10)
    with pytest.raises(ShapeError, match=r"moves: expected float32 \[N, N\] or \[N\], got float32 \[6, 5\]"):
        dataclasses.replace(statistics, moves=np.zeros((6, 5), np.float32))
    with pytest.raises(ShapeError, match="got float64"):
        dataclasses.replace(statistics, moves=np.zeros(6))
    with pytest.raises(DataError, match="moves: holds NaN"):
        Statistics(1, statistics.gram, statistics.largest, np.full(6, np.nan, np.float32))
    with pytest.raises(ShapeError, match="moves: expected 6 outputs, got 7"):
        admm(weight, dataclasses.replace(statistics, moves=np.ones(7, np.float32)), Unstructured(0.5))

"""Correlations against SciPy; intervals by what they promise: that they cover."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerogel.evaluate.intervals import bootstrap, pearson, ranks, spearman, wilson

stats = pytest.importorskip("scipy.stats")

NUMBERS = st.lists(st.floats(-1e6, 1e6) | st.integers(-3, 3).map(float), min_size=2, max_size=40)


@given(NUMBERS)
def test_ranks_are_scipys(values):
    assert ranks(np.array(values)).tolist() == stats.rankdata(values).tolist()


@given(st.data())
def test_spearman_is_scipys(data):
    x = data.draw(NUMBERS)
    y = data.draw(st.lists(st.integers(-3, 3).map(float), min_size=len(x), max_size=len(x)))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(spearman(np.array(x), np.array(y)))
        return
    expected = stats.spearmanr(x, y).statistic
    assert spearman(np.array(x), np.array(y)) == pytest.approx(expected, abs=1e-12)


def test_pearson_is_scipys():
    random = np.random.default_rng(0)
    for n in (2, 3, 10, 1000):
        x = random.standard_normal(n)
        for y in (x + random.standard_normal(n), -x, 1e-12 * random.standard_normal(n) + 5):
            assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
    assert math.isnan(pearson(x, np.ones(n))) and math.isnan(pearson(x[:1], x[:1]))


@pytest.mark.parametrize("hits,trials", [(0, 5), (5, 5), (1, 3), (700, 872)])
def test_wilson_is_scipys(hits, trials):
    expected = stats.binomtest(hits, trials).proportion_ci(method="wilson")
    got = wilson(hits, trials)
    assert (got.value, got.low, got.high) == pytest.approx((hits / trials, expected.low, expected.high), abs=1e-12)


def mean_of(values, seed=0):
    return bootstrap(len(values), lambda chosen: {"mean": values[chosen].mean()}, resamples=300, seed=seed)["mean"]


def test_the_bootstrap_covers_and_repeats():
    random = np.random.default_rng(1)
    samples = random.standard_normal((100, 60))
    found = [mean_of(sample) for sample in samples]
    assert [f.value for f in found] == [sample.mean() for sample in samples]
    assert 87 <= sum(f.low <= 0 <= f.high for f in found) <= 100  # 95 in truth
    assert mean_of(samples[0]) == found[0] != mean_of(samples[0], seed=1)


def test_figures_of_one_bootstrap_are_paired():
    values = np.random.default_rng(0).standard_normal(50) + 10
    found = bootstrap(50, lambda c: {"ratio": (values[c] * 0.9).mean() / values[c].mean(), "mean": values[c].mean()})
    assert found["ratio"].high - found["ratio"].low < 1e-12 < found["mean"].high - found["mean"].low


def test_a_figure_that_is_not_always_defined():
    values = np.array([0.0, 0.0, 1.0])
    found = bootstrap(3, lambda c: {"c": pearson(values[c], values[c])})["c"]
    assert found.value == found.low == found.high == 1
    assert math.isnan(bootstrap(1, lambda c: {"x": 2.0})["x"].low)

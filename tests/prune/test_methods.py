"""What every method does, and which one does it best."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerogel.calibrate import Statistics
from aerogel.errors import DataError, RecipeError, ShapeError
from aerogel.prune import METHODS, Unstructured, method, wanda
from aerogel.prune.contract import NEEDS

from .layers import PATTERNS, error, layer, pattern_of


def needed(name, weight, statistics):
    gradient = np.random.default_rng(5).standard_normal(weight.shape).astype(np.float32)
    return {"nothing": None, "gram": statistics, "gradient": gradient}[METHODS[name].needs]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", METHODS)
@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 9),
    st.integers(1, 150),
    st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)),
    st.integers(1, 60),
    st.booleans(),
)
def test_the_pattern_holds_exactly(name, pattern, n, k, sparsity, tokens, ties):
    weight, statistics = layer(n, k, tokens=tokens)  # often fewer tokens than inputs
    if ties:
        weight = np.sign(weight)
    chosen = pattern_of(pattern, sparsity)
    before = weight.copy()
    weight.flags.writeable = False  # as a view of a mapped file is
    given_ = needed(name, weight, statistics)
    pruned, mask = method(name).function(weight, given_, chosen)
    assert pruned.dtype == np.float32 and mask.dtype == bool and pruned.shape == mask.shape == weight.shape
    # a mask that a pattern chooses from itself is itself: it is valid, and as full as can be
    rows, columns = getattr(chosen, "rows", 1), getattr(chosen, "columns", 1)
    assert np.count_nonzero(mask[::rows, ::columns]) == np.count_nonzero(chosen.keep(np.abs(weight))[::rows, ::columns])
    assert np.array_equal(chosen.keep(mask.astype(np.float32)), mask)
    assert not pruned[~mask].any() and np.isfinite(pruned).all()
    assert np.array_equal(weight, before)
    again = method(name).function(weight, given_, chosen)
    assert pruned.tobytes() == again.weight.tobytes() and np.array_equal(mask, again.mask)


@pytest.mark.parametrize("name", METHODS)
def test_zeros_stay(name):
    weight, statistics = layer(8, 64)
    weight[:, ::2] = 0
    pruned, mask = METHODS[name].function(weight, needed(name, weight, statistics), Unstructured(0.4))
    assert not pruned[weight == 0].any()
    assert np.count_nonzero(pruned) == np.count_nonzero(weight)  # fewer zeros were asked for than there are


@pytest.mark.parametrize("name", METHODS)
def test_nothing_goes_at_sparsity_0(name):
    weight, statistics = layer(8, 64)
    pruned, mask = METHODS[name].function(weight, needed(name, weight, statistics), Unstructured(0))
    assert mask.all()
    np.testing.assert_allclose(pruned, weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_not_finite_or_not_a_matrix(name):
    weight, statistics = layer(4, 8)
    for bad in (np.nan, np.inf, -np.inf):
        broken = weight.copy()
        broken[1, 2] = bad
        with pytest.raises(DataError, match="NaN or infinite"):
            METHODS[name].function(broken, needed(name, weight, statistics), Unstructured(0.5))
    with pytest.raises(ShapeError, match=r"weight: expected \[N, K\], got \[8\]"):
        METHODS[name].function(weight[0], needed(name, weight, statistics), Unstructured(0.5))


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].needs != "nothing"])
def test_what_is_needed_is_asked_for(name):
    weight, statistics = layer(4, 8)
    with pytest.raises(DataError, match="got None"):
        METHODS[name].function(weight, None, Unstructured(0.5))
    other = needed(name, *layer(4, 9))
    with pytest.raises(ShapeError, match="expected .*8.*got .*9"):
        METHODS[name].function(weight, other, Unstructured(0.5))


@pytest.mark.parametrize("name", METHODS)
def test_scores_decide(name):
    entry = METHODS[name]
    assert entry.needs in NEEDS and entry.summary and "arXiv" in entry.source
    weight, statistics = layer(6, 70)
    if entry.score is None:
        return
    score = entry.score(weight, needed(name, weight, statistics))
    mask = entry.function(weight, needed(name, weight, statistics), Unstructured(0.6)).mask
    assert np.array_equal(mask, Unstructured(0.6).keep(score, per_row=name == "wanda"))


def test_wanda_is_the_paper():
    weight = np.array([[4, 3, 2, 1], [40, 30, 20, 10]], np.float32)
    x = np.diag([1, 2, 3, 4]).astype(np.float32)  # scores 4 6 6 4 and 40 60 60 40
    statistics = Statistics.of(x)
    np.testing.assert_allclose(statistics.norms, [0.5, 1, 1.5, 2])
    assert wanda(weight, statistics, Unstructured(0.5)).mask.tolist() == [[False, True, True, False]] * 2
    mask = wanda(weight, statistics, Unstructured(0.5), per_row=False).mask
    assert mask.tolist() == [[False] * 4, [True] * 4]


def test_taylor_is_the_paper():
    weight = np.array([[1, -2, 3, 4]], np.float32)
    gradient = np.array([[9, -3, 1, 0]], np.float32)
    mask = METHODS["taylor"].function(weight, gradient, Unstructured(0.5)).mask
    assert mask.tolist() == [[True, True, False, False]]
    with pytest.raises(DataError, match="gradient: holds NaN"):
        METHODS["taylor"].function(weight, gradient * np.float32(np.nan), Unstructured(0.5))


@pytest.mark.parametrize("sparsity", [0.5, 0.8])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("tokens", [40, 600])
def test_the_better_the_method_the_smaller_the_error(pattern, sparsity, tokens):
    for seed in range(3):
        weight, statistics = layer(32, 192, seed, tokens)
        errors = [
            error(
                weight,
                METHODS[name].function(weight, statistics, pattern_of(pattern, sparsity)).weight,
                statistics.gram,
            )
            for name in ("admm", "obs", "wanda", "magnitude")
        ]
        assert errors == sorted(errors)


def test_unknown_method():
    with pytest.raises(RecipeError, match="expected one of magnitude, .*, got 'banana'"):
        method("banana")

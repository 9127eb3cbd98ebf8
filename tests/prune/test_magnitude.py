import numpy as np
import pytest

from aerogel.errors import DataError, RecipeError, ShapeError
from aerogel.prune import METHODS, Unstructured, Windowed, magnitude, method, parse_pattern

from ..reference import prune as reference

SHAPES = [(1, 1), (1, 64), (3, 65), (7, 130), (16, 63), (5, 192)]


def weights(shape, ties=False, seed=0):
    random = np.random.default_rng(seed)
    w = random.standard_normal(shape).astype(np.float32)
    return np.round(w) if ties else w


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.8, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_unstructured_keeps_the_exact_number(shape, sparsity, ties):
    w = weights(shape, ties)
    mask = magnitude(w, Unstructured(sparsity))
    assert mask.dtype == bool and mask.shape == shape
    assert np.count_nonzero(mask) == w.size - round(sparsity * w.size)
    assert np.array_equal(mask, reference.unstructured(w, sparsity))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("q", [1, 4, 8, 24, 63, 64])
@pytest.mark.parametrize("shape", SHAPES)
def test_windowed_keeps_q_in_each_window(shape, q, ties):
    w = weights(shape, ties)
    mask = magnitude(w, Windowed(q))
    assert np.array_equal(mask, reference.windowed(w, q))
    for begin in range(0, shape[1], 64):
        window = mask[:, begin : begin + 64]
        assert (np.count_nonzero(window, axis=1) == -(-q * window.shape[1] // 64)).all()


@pytest.mark.parametrize("pattern", [Unstructured(0.7), Windowed(8)])
@pytest.mark.parametrize("name", METHODS)
def test_the_input_is_unchanged_and_the_mask_repeats(name, pattern):
    w = weights((9, 100), ties=True)
    before = w.copy()
    w.flags.writeable = False  # as a view of a mapped file is
    first = method(name)(w, pattern)
    assert np.array_equal(w, before)
    assert np.array_equal(first, method(name)(w, pattern))


def test_equal_weights_go_from_the_end():
    mask = magnitude(np.ones((2, 4), np.float32), Unstructured(0.5))
    assert mask.tolist() == [[True] * 4, [False] * 4]


def test_zeros_go_first():
    w = weights((8, 64))
    w[:, ::2] = 0
    assert np.array_equal(magnitude(w, Unstructured(0.5)), w != 0)


def test_not_finite_or_not_a_matrix():
    w = weights((4, 8))
    for bad in (np.nan, np.inf, -np.inf):
        w[1, 2] = bad
        with pytest.raises(DataError, match="NaN or infinite"):
            magnitude(w, Unstructured(0.5))
    with pytest.raises(ShapeError, match=r"expected \[N, K\], got \[8\]"):
        magnitude(w[0], Unstructured(0.5))


def test_patterns_by_name():
    assert parse_pattern("unstructured") == Unstructured(0.8)
    assert parse_pattern("unstructured", 0.25) == Unstructured(0.25)
    assert parse_pattern("8:64") == Windowed(8) and parse_pattern("8:64").sparsity == 0.875
    assert parse_pattern("8:64", 0.875) == Windowed(8)
    assert [str(Unstructured(0.5)), str(Windowed(8))] == ["unstructured", "8:64"]


@pytest.mark.parametrize("text", ["", "0:64", "65:64", "2:4", "8:32", "8", "-1:64", "banana"])
def test_unknown_patterns(text):
    with pytest.raises(RecipeError, match="pattern: expected"):
        parse_pattern(text)


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan")])
def test_impossible_sparsities(sparsity):
    with pytest.raises(RecipeError, match="sparsity: expected a number from 0 to 1"):
        parse_pattern("unstructured", sparsity)


def test_a_sparsity_that_contradicts_the_pattern():
    with pytest.raises(RecipeError, match="contradicts the pattern 8:64, which is 0.875 sparse"):
        parse_pattern("8:64", 0.5)


def test_unknown_method():
    with pytest.raises(RecipeError, match="'banana' is unknown"):
        method("banana")

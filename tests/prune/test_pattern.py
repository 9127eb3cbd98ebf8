import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerogel.errors import DataError, RecipeError, ShapeError
from aerogel.prune import Blocks, Unstructured, Windowed, parse_pattern

from ..reference import prune as reference

shapes = st.tuples(st.integers(1, 9), st.integers(1, 150))
sparsities = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))


def scores(shape, seed, ties):
    score = np.abs(np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)
    return np.round(score * 2) if ties else score


@settings(deadline=None)
@given(shapes, sparsities, st.integers(0, 99), st.booleans())
def test_unstructured(shape, sparsity, seed, ties):
    score = scores(shape, seed, ties)
    assert np.array_equal(Unstructured(sparsity).keep(score), reference.unstructured(score, sparsity))
    rows = Unstructured(sparsity).keep(score, per_row=True).sum(axis=1)
    assert rows.sum() == score.size - round(sparsity * score.size)
    assert rows.max() - rows.min() <= 1


@settings(deadline=None)
@given(shapes, st.integers(2, 64), st.data(), st.integers(0, 99), st.booleans())
def test_windows_of_any_size(shape, window, data, seed, ties):
    q = data.draw(st.integers(1, window))
    score = scores(shape, seed, ties)
    mask = Windowed(q, window).keep(score)
    assert np.array_equal(mask, reference.windowed(score, q, window))
    assert np.array_equal(mask, Windowed(q, window).keep(score, per_row=True))


@settings(deadline=None)
@given(shapes, st.integers(2, 64), st.integers(2, 5), st.data(), st.integers(0, 99), st.booleans())
def test_windows_whose_rows_share_a_mask(shape, window, rows, data, seed, ties):
    q = data.draw(st.integers(1, window))
    score = scores(shape, seed, ties)
    mask = Windowed(q, window, rows).keep(score)
    of_sets = np.stack([(score[i : i + rows].astype(np.float64) ** 2).mean(axis=0) for i in range(0, shape[0], rows)])
    assert np.array_equal(mask, reference.windowed(of_sets, q, window).repeat(rows, axis=0)[: shape[0]])
    assert np.array_equal(mask, Windowed(q, window, rows).keep(score, per_row=True))


@settings(deadline=None)
@given(shapes, st.sampled_from([(1, 4), (2, 1), (4, 1), (3, 2), (1, 64)]), sparsities, st.integers(0, 99), st.booleans())
def test_blocks(shape, block, sparsity, seed, ties):
    score = scores(shape, seed, ties)
    pattern = Blocks(*block, sparsity)
    mask = pattern.keep(score)
    assert np.array_equal(mask, reference.blocks(score, *block, sparsity))
    for i in range(0, shape[0], block[0]):
        for j in range(0, shape[1], block[1]):
            part = mask[i : i + block[0], j : j + block[1]]
            assert part.all() or not part.any()
    per_row = pattern.keep(score, per_row=True)[:: block[0], :: block[1]]
    assert np.count_nonzero(per_row) == np.count_nonzero(mask[:: block[0], :: block[1]])


def test_how_the_scores_of_a_block_are_combined():
    score = np.array([[3, 3, 3, 3, 5, 5, 0, 0]], np.float32)  # sums 12 and 10, squares 36 and 50
    assert Blocks(1, 4, 0.5).keep(score)[0].tolist() == [False] * 4 + [True] * 4
    assert Blocks(1, 4, 0.5, "sum").keep(score)[0].tolist() == [True] * 4 + [False] * 4


def test_squares_of_tiny_scores_do_not_underflow():
    score = np.array([[1e-30, 0, 2e-30, 0]], np.float32)
    assert Blocks(1, 2, 0.5).keep(score)[0].tolist() == [False, False, True, True]


@settings(deadline=None)
@given(shapes, st.sampled_from(["unstructured", "1x4", "2x1", "3x5", "2:4", "5:7", "8:64", "8:64x4"]), sparsities)
def test_parts_have_the_sparsity_of_the_whole(shape, name, sparsity):
    pattern = parse_pattern(name, None if ":" in name else sparsity)
    score = scores(shape, 0, False)
    step = pattern.step(16)
    mask = np.hstack(
        [pattern.part(i, min(i + step, shape[1]), shape).keep(score[:, i : i + step]) for i in range(0, shape[1], step)]
    )
    rows, columns = (pattern.rows, pattern.columns) if isinstance(pattern, Blocks) else (1, 1)
    whole = pattern.keep(score)
    assert np.count_nonzero(mask[::rows, ::columns]) == np.count_nonzero(whole[::rows, ::columns])
    if isinstance(pattern, Windowed):
        assert np.array_equal(mask, whole)


@pytest.mark.parametrize("text", ["unstructured", "8:64", "2:4", "4:8", "1:2", "64:64", "1x4", "2x1", "4x1", "1x4:sum", "8:64x4", "2:4x2"])
def test_names_are_read_back(text):
    pattern = parse_pattern(text)
    assert str(pattern) == text
    assert pattern.at(pattern.sparsity) == pattern
    assert parse_pattern(text, pattern.sparsity) == pattern


def test_patterns_by_name():
    assert parse_pattern("unstructured") == Unstructured(0.8)
    assert parse_pattern("unstructured", 0.25) == Unstructured(0.25)
    assert parse_pattern("8:64") == Windowed(8) and parse_pattern("8:64").sparsity == 0.875
    assert parse_pattern("2:4", 0.5) == Windowed(2, 4)
    assert parse_pattern("8:64x4") == Windowed(8, 64, 4) and parse_pattern("8:64x4").sparsity == 0.875
    assert parse_pattern("8:64x1") == Windowed(8)
    assert parse_pattern("1x4", 0.9) == Blocks(1, 4, 0.9)
    assert Unstructured(0.5).at(0.7) == Unstructured(0.7)
    assert Blocks(2, 1, 0.5).at(0.7) == Blocks(2, 1, 0.7)


@pytest.mark.parametrize(
    "text", ["", "0:64", "65:64", "5:4", "0:1", "1:1", "2:65", "8", "-1:64", "banana", "0x4", "1x1", "1x65", "1x4:max", "8:64x0", "8:64x65", "8:64x"]
)
def test_unknown_patterns(text):
    with pytest.raises(RecipeError, match="pattern: .*expected"):
        parse_pattern(text)


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("text", ["unstructured", "1x4"])
def test_impossible_sparsities(text, sparsity):
    with pytest.raises(RecipeError, match="sparsity: expected a number from 0 to 1"):
        parse_pattern(text, sparsity)


def test_a_sparsity_that_contradicts_the_pattern():
    with pytest.raises(RecipeError, match="contradicts the pattern 8:64, which is 0.875 sparse"):
        parse_pattern("8:64", 0.5)
    with pytest.raises(RecipeError, match="expected a number from 0 to 1, got nan"):
        Windowed(2, 4).at(float("nan"))


@pytest.mark.parametrize("pattern", [Unstructured(0.5), Windowed(2, 4), Blocks(1, 4)])
def test_scores_that_cannot_be(pattern):
    with pytest.raises(DataError, match="NaN or negative"):
        pattern.keep(np.array([[1, np.nan, 2, 3]], np.float32))
    with pytest.raises(DataError, match="NaN or negative"):
        pattern.keep(np.array([[1, -1, 2, 3]], np.float32))
    with pytest.raises(ShapeError, match=r"expected \[N, K\], got \[4\]"):
        pattern.keep(np.ones(4, np.float32))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
@pytest.mark.parametrize("pattern", [Unstructured(0.5), Windowed(2, 4), Windowed(2, 4, 3), Blocks(1, 4), Blocks(2, 1)])
def test_nothing_to_choose_from(pattern, shape):
    assert pattern.keep(np.zeros(shape, np.float32)).shape == shape

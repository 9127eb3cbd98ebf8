import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerogel.errors import DataError, RecipeError
from aerogel.prune import Unstructured, global_sparsities, global_threshold, magnitude, sparsity_below, threshold


def test_an_absolute_threshold():
    w = np.array([[0.2, -0.5, 0.1, 0.3]], np.float32)
    sparsity = sparsity_below(np.abs(w), 0.3)
    assert magnitude(w, None, Unstructured(sparsity)).mask.tolist() == [[False, True, False, True]]
    assert sparsity_below(np.abs(w), 0) == 0 and sparsity_below(np.abs(w), np.inf) == 1


def test_a_threshold_is_rounded_like_the_scores():
    assert float(np.float32(0.7)) < 0.7
    assert sparsity_below(np.array([[0.7]], np.float32), 0.7) == 0


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 40)), min_size=1, max_size=6),
    st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)),
    st.integers(0, 99),
    st.booleans(),
    st.sampled_from([1, 50, 1 << 22]),
)
def test_one_threshold_for_all(shapes, sparsity, seed, ties, gathered):
    random = np.random.default_rng(seed)
    scores = [np.abs(random.standard_normal(shape)).astype(np.float32) * (i + 1) for i, shape in enumerate(shapes)]
    scores = [np.round(score) for score in scores] if ties else scores
    together = np.sort(np.concatenate([score.reshape(-1) for score in scores]))
    gone = round(sparsity * together.size)
    with pytest.MonkeyPatch.context() as patch:  # so that small cases are narrowed too
        patch.setattr(threshold, "GATHERED", gathered)
        found = global_threshold(scores, sparsity)
        sparsities = global_sparsities(scores, sparsity)
    assert found == (together[gone] if gone < together.size else np.inf)
    assert sum(round(s * score.size) for s, score in zip(sparsities, scores)) == gone
    for s, score in zip(sparsities, scores):
        mask = Unstructured(s).keep(score)
        assert (score[mask] >= found).all() and (score[~mask] <= found).all()


def test_among_equals_the_first_matrices_stay():
    assert global_sparsities([np.ones((2, 2), np.float32)] * 3, 0.5) == [0, 0.5, 1]


def test_impossible():
    with pytest.raises(RecipeError, match="sparsity: expected a number from 0 to 1"):
        global_threshold([np.ones((2, 2))], 1.5)
    with pytest.raises(RecipeError, match="threshold: expected a number that is not negative, got nan"):
        sparsity_below(np.ones((2, 2)), float("nan"))
    for bad in (np.nan, -1, np.inf):
        with pytest.raises(DataError, match="NaN, infinite or negative"):
            global_sparsities([np.full((1, 1), bad, np.float32)], 0.5)

import numpy as np
import pytest

from aerogel.errors import DataError, ShapeError
from aerogel.prune import Unstructured, Windowed, magnitude

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
    pruned, mask = magnitude(w, None, Unstructured(sparsity))
    assert mask.dtype == bool and mask.shape == shape
    assert np.count_nonzero(mask) == w.size - round(sparsity * w.size)
    assert np.array_equal(mask, reference.unstructured(w, sparsity))
    assert pruned.dtype == np.float32 and np.array_equal(pruned, np.where(mask, w, 0))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("q", [1, 4, 8, 24, 63, 64])
@pytest.mark.parametrize("shape", SHAPES)
def test_windowed_keeps_q_in_each_window(shape, q, ties):
    w = weights(shape, ties)
    mask = magnitude(w, None, Windowed(q)).mask
    assert np.array_equal(mask, reference.windowed(w, q))
    for begin in range(0, shape[1], 64):
        window = mask[:, begin : begin + 64]
        assert (np.count_nonzero(window, axis=1) == -(-q * window.shape[1] // 64)).all()


def test_equal_weights_go_from_the_end():
    mask = magnitude(np.ones((2, 4), np.float32), None, Unstructured(0.5)).mask
    assert mask.tolist() == [[True] * 4, [False] * 4]


def test_zeros_go_first():
    w = weights((8, 64))
    w[:, ::2] = 0
    assert np.array_equal(magnitude(w, None, Unstructured(0.5)).mask, w != 0)


def test_not_finite_or_not_a_matrix():
    w = weights((4, 8))
    for bad in (np.nan, np.inf, -np.inf):
        w[1, 2] = bad
        with pytest.raises(DataError, match="NaN or infinite"):
            magnitude(w, None, Unstructured(0.5))
    with pytest.raises(ShapeError, match=r"expected \[N, K\], got \[8\]"):
        magnitude(w[0], None, Unstructured(0.5))

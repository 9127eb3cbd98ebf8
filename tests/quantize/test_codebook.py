import numpy as np
import pytest

from aerogel.quantize import quantize, scheme
from aerogel.quantize.stored import to_weight


def weights(n=64, k=256, zeros=0.0, seed=0):
    random = np.random.default_rng(seed)
    w = random.standard_normal((n, k)) * random.uniform(0.5, 2, (n, 1))
    w[np.abs(w) < np.quantile(np.abs(w), zeros)] = 0
    return w.astype(np.float32)


def lloyd(w, entries, seeds=4):
    """The least squared error of plain k-means on w/scale, from several random beginnings."""
    scale = np.abs(w).max(axis=1, keepdims=True).astype(np.float64)
    scale[scale == 0] = 1
    values, share = (w / scale)[w != 0], np.broadcast_to(scale**2, w.shape)[w != 0]
    best = np.inf
    for seed in range(seeds):
        centres = np.sort(np.random.default_rng(seed).choice(values, entries, replace=False))
        for _ in range(60):
            index = np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
            amount = np.bincount(index, share, entries)
            centres = np.where(
                amount > 0, np.bincount(index, share * values, entries) / np.maximum(amount, 1e-30), centres
            )
            centres.sort()
        best = min(
            best, (share * (centres[np.searchsorted((centres[1:] + centres[:-1]) / 2, values)] - values) ** 2).sum()
        )
    return best


@pytest.mark.parametrize("zeros", [0.0, 0.8])
@pytest.mark.parametrize("entries", [16, 32, 64])
def test_as_good_as_k_means_in_floats(entries, zeros):
    w = weights(zeros=zeros)
    error = ((quantize(f"codebook:{entries}", w).dense() - w) ** 2).sum()
    assert error <= 1.03 * lloyd(w, entries)


def test_as_many_levels_as_asked_for():
    for entries in (4, 16, 17, 64, 100):
        levels = quantize(f"codebook:{entries}", weights()).levels
        assert levels.dtype == np.int8 and (np.diff(levels.astype(int)) > 0).all()
        assert 0.8 * entries <= len(levels) <= entries and np.abs(levels).max() == 127
    assert 200 <= len(quantize("codebook:256", weights()).levels) <= 255


def test_zero_takes_a_level_only_where_there_are_few_zeros():
    none, few, many = (quantize("codebook:16", weights(zeros=z, seed=1)) for z in (0.0, 0.1, 0.6))
    assert len(none.levels) == len(few.levels) == len(many.levels) == 16
    assert 0 in few.levels and 0 not in many.levels
    assert to_weight(few).mask is None and to_weight(many).mask is not None and to_weight(many).bits == 4
    forced = to_weight(many, sparse=False)  # 0 becomes a 17th level, and an index takes 5 bits
    assert forced.bits == 5 and len(forced.levels) == 17
    np.testing.assert_array_equal(forced.dense(), many.dense())


def test_a_matrix_of_few_values_is_kept():
    w = np.random.default_rng(2).choice([-0.5, -0.25, 0.5], (32, 64)).astype(np.float32)
    np.testing.assert_allclose(quantize("codebook:16", w).dense(), w, atol=0.002)


def test_many_chunks_are_as_one():
    w = np.tile(weights(64, 1024, seed=3), (9, 1))
    once, many = (quantize("codebook:16", matrix) for matrix in (w[:64], w))
    assert np.array_equal(many.levels, once.levels) and np.array_equal(many.values, np.tile(once.values, (9, 1)))


def test_rounding_is_to_the_nearest():
    w = weights(8, 500, seed=4)
    grid = scheme("codebook:16").grid(w)
    values = grid.scale[:, None, None] * grid.levels.astype(np.float32)
    nearest = np.abs(values - w[:, :, None]).min(axis=2)
    np.testing.assert_allclose(np.abs(grid.round(w, 0) - w), nearest, rtol=1e-4, atol=1e-6)

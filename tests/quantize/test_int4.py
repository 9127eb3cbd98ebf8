import numpy as np
import pytest

from aerogel.quantize import quantize, scheme
from aerogel.quantize.int4 import Int4
from aerogel.quantize.stored import to_weight


def weights(n=8, k=256, seed=0):
    """Rows whose groups differ in size, with a few outliers."""
    random = np.random.default_rng(seed)
    w = random.standard_normal((n, k)) * np.repeat(random.uniform(0.3, 1.5, (n, k // 32)), 32, axis=1)
    w[random.random(w.shape) < 0.004] *= 4
    return w.astype(np.float32)


def squared(w, step, low, high):
    return ((np.clip(np.rint(w / step), low, high) * step - w) ** 2).sum()


def exhaustive(w, group, asymmetric):
    """The least squared error of a row over 120 scales, every multiplier and every zero point."""
    groups = w.astype(np.float64).reshape(-1, group)
    finest = np.abs(w).max() / (127 if asymmetric else 126)
    best = np.inf
    for scale in np.geomspace(finest / 2, finest * 2, 120):
        total = 0.0
        for part in groups:
            options = []
            for zero in range(16) if asymmetric else [7]:
                low, high = (-zero, 15 - zero) if asymmetric else (-7, 7)
                most = 127 // max(-low, high)
                options += [squared(part, scale * m, low, high) for m in range(1, most + 1)]
            total += min(options)
        best = min(best, total)
    return best


def test_the_search_is_nearly_exhaustive():
    w = weights(8)
    found = ((quantize("int4:g64", w).dense() - w) ** 2).sum(axis=1)
    best = np.array([exhaustive(row, 64, False) for row in w])
    assert (found >= best * 0.999).all() and found.sum() <= 1.04 * best.sum()


def test_offsets_are_as_good_as_the_best_zero_points_of_all():
    w = weights(2, seed=1) + np.float32(0.3)
    found = ((quantize("int4:g64:asym", w).dense() - w) ** 2).sum()
    assert found <= 1.01 * sum(exhaustive(row, 64, True) for row in w)


def test_a_model_that_had_16_values_a_group_keeps_them():
    """As GGUF's Q4_1 has them: any step, any least value, 32 columns."""
    random = np.random.default_rng(7)
    step, least = random.uniform(0.02, 0.05, (2, 24, 6, 1)) * np.array([1, -8]).reshape(2, 1, 1, 1)
    w = (random.integers(0, 16, (24, 6, 32)) * step + least).astype(np.float32).reshape(24, -1)
    error = [np.square(quantize(name, w).dense() - w).mean() for name in ("int4:g32:asym", "int4:g32")]
    assert error[0] < np.square(step).mean() / 12 / 4 and error[1] > np.square(step).mean() / 12


@pytest.mark.parametrize("group", [32, 64, 128])
def test_better_than_a_float_scale_that_clips_nothing(group):
    w = weights(64, 512, seed=2)
    parts = w.reshape(64, -1, group)
    step = np.abs(parts).max(axis=2, keepdims=True) / 7
    plain = np.linalg.norm(np.rint(parts / step) * step - parts)
    assert np.linalg.norm(quantize(f"int4:g{group}", w).dense() - w) < 0.98 * plain


def test_zero_points_pay_where_weights_lie_to_one_side():
    w = np.abs(weights(16, 256, seed=3))
    errors = [np.linalg.norm(quantize(name, w).dense() - w) for name in ("int4:g64", "int4:g64:asym")]
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("asymmetric", [False, True])
def test_what_is_stored(asymmetric):
    w = weights(5, 96, seed=4)
    w[2] = 0
    w[3, 64:] = 0
    quantized = quantize("int4:g64" + (":asym" if asymmetric else ""), w)
    assert quantized.group == 64 and quantized.multiplier.shape == (5, 2) and quantized.multiplier.dtype == np.uint8
    assert quantized.multiplier.min() >= 1 and len(quantized.levels) <= 16
    if asymmetric:
        assert quantized.offset.shape == (5, 2) and quantized.offset.dtype == np.int8
    else:
        assert quantized.offset is None and quantized.multiplier.max() <= 18
    assert quantized.scale[2] == 0 and not quantized.dense()[3, 64:].any()


def test_rows_do_not_depend_on_each_other():
    w = weights(6, 128, seed=5)
    whole = quantize("int4:g32:asym", w).dense()
    for i in range(6):
        np.testing.assert_array_equal(quantize("int4:g32:asym", w[i : i + 1]).dense()[0], whole[i])
    assert np.array_equal(scheme("int4:g32").grid(w * 4).scale, scheme("int4:g32").grid(w).scale * 4)


def test_many_chunks_are_as_one():
    w = np.tile(weights(64, 2048, seed=6), (5, 1))
    quantized = quantize("int4:g128", w)
    assert np.array_equal(quantized.values, np.tile(quantized.values[:64], (5, 1)))


def test_no_code_of_skewed_groups_leaves_int8():
    random = np.random.default_rng(0)
    weight = (random.standard_normal((400, 512)) * random.gamma(0.3, 1, (400, 8)).repeat(64, axis=1)).astype(np.float32)
    weight += random.standard_normal((400, 8)).repeat(64, axis=1).astype(np.float32) * 0.4
    weight[random.random(weight.shape) < 0.01] = 0
    grid = Int4(64, asymmetric=True).grid(weight)
    assert grid.offset is not None
    ends = grid.offset + np.array([0, 15]).reshape(2, 1, 1) * grid.multiplier
    assert 120 < np.abs(ends).max() <= 127
    stored = to_weight(grid.quantize(weight))
    assert np.array_equal(stored.codes(np.int32), stored.codes(np.int8))
    zeros = (weight == 0).reshape(400, 8, 64).any(axis=2)
    assert zeros.any() and not zeros.all() and not (-grid.offset[zeros] % grid.multiplier[zeros]).any()
    assert not stored.dense()[weight == 0].any()

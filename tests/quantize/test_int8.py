import numpy as np
import pytest

from aerogel.errors import DataError, RecipeError, ShapeError
from aerogel.quantize import SCHEMES, int8, none, scheme

from ..reference import quantize as reference


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (16, 65), (2, 512)])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_agrees_with_the_reference(shape, size):
    w = (np.random.default_rng(1).standard_normal(shape) * size).astype(np.float32)
    quantized = int8(w)
    codes, scales = reference.int8(w)
    assert np.array_equal(quantized.values, codes) and quantized.values.dtype == np.int8
    assert np.array_equal(quantized.scale, scales) and quantized.scale.dtype == np.float32


def test_error_is_at_most_half_a_step():
    w = np.random.default_rng(2).standard_normal((32, 200)).astype(np.float32)
    quantized = int8(w)
    assert (np.abs(quantized.dense() - w) <= quantized.scale[:, None] * 0.5001).all()
    assert np.abs(quantized.values.astype(int)).max() == 127
    assert quantized.values.min() >= -127


def test_rows_of_zeros_and_of_almost_zeros():
    w = np.zeros((3, 5), np.float32)
    w[1] = 1e-44
    w[2, 4] = -3
    quantized = int8(w)
    assert quantized.scale[:2].tolist() == [0, 0] and not quantized.values[:2].any()
    assert quantized.values[2].tolist() == [0, 0, 0, 0, -127]


def test_zeros_stay_zero():
    w = np.random.default_rng(3).standard_normal((8, 64)).astype(np.float32)
    w[:, ::3] = 0
    assert not int8(w).values[:, ::3].any()


def test_the_largest_float_does_not_overflow():
    w = np.full((1, 2), np.finfo(np.float32).max)
    assert int8(w).values.tolist() == [[127, 127]]


def test_not_finite_or_not_a_matrix():
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(DataError, match="NaN or infinite"):
            int8(np.array([[1, bad, 2]], np.float32))
    with pytest.raises(ShapeError, match=r"expected \[N, K\], got \[3\]"):
        int8(np.ones(3, np.float32))


def test_none_is_the_weight():
    w = np.random.default_rng(4).standard_normal((4, 4)).astype(np.float32)
    assert none(w).scale is None and np.array_equal(none(w).dense(), w)


@pytest.mark.parametrize("name", SCHEMES)
def test_the_input_is_unchanged(name):
    w = np.random.default_rng(5).standard_normal((4, 4)).astype(np.float32)
    before = w.copy()
    w.flags.writeable = False
    scheme(name)(w)
    assert np.array_equal(w, before)


def test_unknown_scheme():
    with pytest.raises(RecipeError, match="'int3' is unknown"):
        scheme("int3")

import numpy as np
import pytest

from aerogel.errors import DataError, ShapeError
from aerogel.numbers.bf16 import finite, narrow, widen
from aerogel.quantize import bf16

from ..reference import quantize as reference


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (16, 65)])
@pytest.mark.parametrize("size", [1e-40, 1e-30, 1.0, 1e30, 3e38])
def test_agrees_with_the_reference(shape, size):
    w = (np.random.default_rng(1).uniform(-1.1, 1.1, shape) * size).astype(np.float32)
    quantized = bf16(w)
    assert quantized.values.dtype == np.uint16 and quantized.scale is None
    assert np.array_equal(quantized.values, reference.bf16(w))


def test_ties_go_to_even_and_nothing_overflows():
    bits = np.array([[0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0xFF7FFFFF, 0x80000000, 0x00000001]], np.uint32)
    assert bf16(bits.view(np.float32)).values.tolist() == [[0x3F80, 0x3F82, 0x3F81, 0x7F7F, 0xFF7F, 0, 0]]


def test_what_is_bf16_already_is_kept():
    codes = np.arange(1 << 16, dtype=np.uint16)
    codes = codes[finite(codes) & (codes != 0x8000)]
    assert np.array_equal(narrow(widen(codes)), codes)
    assert np.array_equal(bf16(widen(codes)[None]).dense()[0], widen(codes))


def test_error_is_at_most_half_a_step():
    w = np.random.default_rng(2).standard_normal((32, 200)).astype(np.float32)
    assert (np.abs(bf16(w).dense() - w) <= np.abs(w) * 2.0**-8).all()


def test_zeros_stay_zero():
    w = np.random.default_rng(3).standard_normal((8, 64)).astype(np.float32)
    w[:, ::3] = 0
    w[:, ::6] *= -1
    assert not bf16(w).values[:, ::3].any()


def test_not_finite_or_not_a_matrix():
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(DataError, match="NaN or infinite"):
            bf16(np.array([[1, bad, 2]], np.float32))
    with pytest.raises(ShapeError, match=r"expected \[N, K\], got \[3\]"):
        bf16(np.ones(3, np.float32))

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerogel.checkpoint import Weight
from aerogel.checkpoint.weight import check_finite
from aerogel.errors import DataError, ShapeError
from aerogel.numbers.bits import pack_bits

from .tiny_files import pack_matrix


@given(st.integers(1, 5), st.integers(1, 20), st.sampled_from([0.0, 0.3, 1.0]), st.booleans(), st.integers(0, 99))
def test_dense_of_every_form(n: int, k: int, keep: float, quantized: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = (rng.integers(-127, 128, (n, k)) * (rng.random((n, k)) < keep)).astype(np.int8 if quantized else np.float32)
    scale = rng.random(n, np.float32) + np.float32(0.5) if quantized else None
    expected = codes * scale[:, None] if scale is not None else codes
    parts = pack_matrix("w", codes, scale)
    for weight in (Weight((n, k), codes, scale), Weight((n, k), parts["w_values"], scale, parts["w_bitmask"])):
        np.testing.assert_array_equal(weight.dense(), expected.astype(np.float32), strict=True)
        assert weight.sparsity == pytest.approx(1 - np.count_nonzero(codes) / codes.size)
    assert Weight((n, k), codes, scale).nbytes == codes.nbytes + (4 * n if quantized else 0)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bits", [0, 3, 4])
def test_reordered_of_every_form(axis: int, masked: bool, bits: int) -> None:
    rng = np.random.default_rng(bits)
    shape, scale = (5, 11), rng.random(5, np.float32) + np.float32(0.5)
    stored = rng.random(shape) < 0.6 if masked else np.ones(shape, bool)
    elements = rng.integers(1, 8, shape).astype(np.uint8 if bits else np.int8)
    values = elements[stored] if masked else elements
    mask = np.packbits(stored, axis=1, bitorder="little") if masked else None
    more: dict[str, Any] = {}
    if bits:
        levels = rng.integers(-7, 8, 8).astype(np.int8)
        more = {"levels": levels, "bits": bits, "multiplier": rng.integers(1, 9, (5, 1)).astype(np.uint8)}
        more["offset"] = rng.integers(-60, 61, (5, 1)).astype(np.int8)
        values = pack_bits(values, bits)
    weight = Weight(shape, values, scale, mask, **more)
    order = rng.permutation(shape[axis])
    np.testing.assert_array_equal(weight.reordered(axis, order).dense(), np.take(weight.dense(), order, axis))


def test_columns_in_groups_keep_their_order() -> None:
    weight = Weight((2, 16), np.ones((2, 16), np.int8), np.float32([[1, 2], [3, 4]]), group=8)
    np.testing.assert_array_equal(weight.reordered(0, np.array([1, 0])).dense(), weight.dense()[::-1])
    with pytest.raises(ShapeError, match="columns in groups of 8 keep their order"):
        weight.reordered(1, np.arange(16))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": np.zeros((2, 3), np.float32)}, r"values: expected \[2, 4\], got \[2, 3\]"),
        ({"values": np.zeros((2, 4))}, r"expected float32, float16, uint16 \(bf16\) or int8 values, got float64"),
        ({"values": np.zeros((2, 4), np.int8)}, "a scale goes with int8"),
        ({"values": np.zeros((2, 4), np.float32), "scale": np.ones(2, np.float32)}, "a scale goes with int8"),
        ({"values": np.zeros((2, 4), np.uint16), "scale": np.ones(2, np.float32)}, "a scale goes with int8"),
        ({"values": np.zeros((2, 4), np.int8), "scale": np.ones(3, np.float32)}, r"scale: expected \[2\], got \[3\]"),
        (
            {"values": np.zeros(1, np.float32), "mask": np.zeros((2, 2), np.uint8)},
            r"mask: expected \[2, 1\], got \[2, 2\]",
        ),
        ({"values": np.zeros((1, 1), np.float32), "mask": np.zeros((2, 1), np.uint8)}, "expected a vector"),
    ],
)
def test_parts_that_do_not_fit(arguments: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Weight((2, 4), **arguments)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_check_finite(bad: float) -> None:
    values = np.ones((3, 5), np.float32)
    check_finite("w", values)
    values[1, 2] = bad
    with pytest.raises(DataError, match="w: expected finite values, got 1 of 15"):
        check_finite("w", values)


def test_check_finite_when_the_sum_overflows() -> None:
    check_finite("w", np.full(100, 3e38, np.float32))
    check_finite("w", np.zeros(0, np.float32))

"""Integers packed into words, in both layouts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference.compressed_tensors import words_of

from aerogel.checkpoint.compressed_tensors import packed
from aerogel.checkpoint.compressed_tensors.packed import unpack
from aerogel.errors import CheckpointError, DataError, ShapeError


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 70), st.booleans(), st.integers(0, 999))
def test_agrees_with_packing_bit_by_bit(bits: int, rows: int, count: int, stream: bool, seed: int) -> None:
    half = 1 << (bits - 1)
    numbers = np.random.default_rng(seed).integers(-half, half, (rows, count)).astype(np.int8)
    words = words_of(numbers, bits, stream)
    version = (0, 17, 0) if stream else (0, 16, 9)
    np.testing.assert_array_equal(unpack(words, count, bits, version, "w"), numbers, strict=True)


def test_the_example_of_the_format() -> None:
    words = np.array([[0x76543210]], np.int32)
    assert unpack(words, 8, 4, (), "w").tolist() == [[-8, -7, -6, -5, -4, -3, -2, -1]]


def test_many_rows_go_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_CHUNK", 50)
    numbers = np.random.default_rng(0).integers(-4, 4, (23, 20)).astype(np.int8)
    np.testing.assert_array_equal(unpack(words_of(numbers, 3, True), 20, 3, (0, 17), "w"), numbers)


def test_the_width_decides_against_the_version() -> None:
    numbers = np.random.default_rng(0).integers(-4, 4, (2, 64)).astype(np.int8)
    for stream, version in ((True, (0, 14)), (False, (0, 18))):  # 6 words, or 7 of lanes
        np.testing.assert_array_equal(unpack(words_of(numbers, 3, stream), 64, 3, version, "w"), numbers)


def test_a_tie_without_a_version() -> None:
    numbers = np.zeros((1, 11), np.int8)  # two words in both layouts; the eleventh number stands elsewhere
    with pytest.raises(CheckpointError, match=r"w: 11 numbers of 3 bits in 2 words.*expected a version"):
        unpack(words_of(numbers, 3, True), 11, 3, (), "w")
    unpack(words_of(numbers[:, :10], 3, True), 10, 3, (), "w")  # one word: the same in both


@pytest.mark.parametrize(
    ("count", "bits", "width", "expected"), [(20, 4, 2, "3"), (64, 3, 8, "6 or 7"), (1, 8, 0, "1")]
)
def test_widths_of_neither_layout(count: int, bits: int, width: int, expected: str) -> None:
    with pytest.raises(ShapeError, match=f"expected {expected} words a row, got {width}"):
        unpack(np.zeros((3, width), np.int32), count, bits, (0, 17), "w")


@pytest.mark.parametrize(("stream", "bit"), [(True, 33), (True, 63), (False, 30), (False, 35), (False, 62)])
def test_bits_where_no_number_is(stream: bool, bit: int) -> None:
    words = words_of(np.zeros((2, 11), np.int8), 3, stream)
    words.view(np.uint32)[1, bit // 32] |= np.uint32(1 << bit % 32)
    with pytest.raises(DataError, match=f"bits set in word {bit // 32} of a row"):
        unpack(words, 11, 3, (0, 17) if stream else (0, 9), "w")

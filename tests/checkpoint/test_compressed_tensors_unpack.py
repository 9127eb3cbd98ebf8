"""Integers packed into words, in both layouts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerogel.checkpoint.compressed_tensors import unpack as packed
from aerogel.checkpoint.compressed_tensors.unpack import unpack
from aerogel.errors import DataError, ShapeError

from ..reference.compressed_tensors import words_of


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 70), st.booleans(), st.integers(0, 999))
def test_agrees_with_packing_bit_by_bit(bits: int, rows: int, count: int, stream: bool, seed: int) -> None:
    half = 1 << (bits - 1)
    numbers = np.random.default_rng(seed).integers(-half, half, (rows, count)).astype(np.int8)
    words = words_of(numbers, bits, stream)
    version = (0, 18, 0) if stream else (0, 17, 1)
    np.testing.assert_array_equal(unpack(words, count, bits, version, "w"), numbers, strict=True)


def test_the_example_of_the_format() -> None:
    words = np.array([[0x76543210]], np.int32)
    assert unpack(words, 8, 4, (), "w").tolist() == [[-8, -7, -6, -5, -4, -3, -2, -1]]


def test_many_rows_go_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_CHUNK", 50)
    numbers = np.random.default_rng(0).integers(-4, 4, (23, 20)).astype(np.int8)
    np.testing.assert_array_equal(unpack(words_of(numbers, 3, True), 20, 3, (0, 18), "w"), numbers)


def test_the_width_decides_against_the_version() -> None:
    numbers = np.random.default_rng(0).integers(-4, 4, (2, 64)).astype(np.int8)
    for stream, version in ((True, (0, 14)), (False, (0, 18))):  # 6 words, or 7 of lanes
        np.testing.assert_array_equal(unpack(words_of(numbers, 3, stream), 64, 3, version, "w"), numbers)


def test_bits_decide_where_the_width_does_not() -> None:
    numbers = np.full((1, 11), 3, np.int8)  # two words in both layouts; the eleventh number stands elsewhere
    for stream in (True, False):
        for version in ((), (0, 9), (0, 17, 1), (0, 20)):  # whatever a file may say
            np.testing.assert_array_equal(unpack(words_of(numbers, 3, stream), 11, 3, version, "w"), numbers)


def test_the_version_decides_where_bits_do_not() -> None:
    numbers = np.full((1, 11), -4, np.int8)
    numbers[0, 10] = 0  # 0b100 from bit 30 on: bit 32 is set, which as lanes is 0b001 from bit 32 on
    word = words_of(numbers, 3, True)
    assert word.tolist() == [[0, 1]]
    assert unpack(word, 11, 3, (0, 18), "w")[0, 10] == 0
    for version in ((), (0, 17, 1)):  # old files do not say
        assert unpack(word, 11, 3, version, "w")[0, 10] == 1 - 4


@pytest.mark.parametrize(
    ("count", "bits", "width", "expected"), [(20, 4, 2, "3"), (64, 3, 8, "6 or 7"), (1, 8, 0, "1")]
)
def test_widths_of_neither_layout(count: int, bits: int, width: int, expected: str) -> None:
    with pytest.raises(ShapeError, match=f"expected {expected} words a row, got {width}"):
        unpack(np.zeros((3, width), np.int32), count, bits, (0, 18), "w")


@pytest.mark.parametrize(("bits", "stream", "bit"), [(3, True, 63), (3, False, 63), (5, False, 31), (4, True, 44)])
def test_bits_where_no_number_is(bits: int, stream: bool, bit: int) -> None:
    words = words_of(np.full((2, 11), (1 << bits - 1) - 1, np.int8), bits, stream)  # all bits of the numbers are set
    words.view(np.uint32)[1, bit // 32] |= np.uint32(1 << bit % 32)
    with pytest.raises(DataError, match="bits set in word [01] of a row"):
        unpack(words, 11, bits, (0, 18) if stream else (0, 9), "w")

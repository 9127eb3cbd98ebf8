import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerogel.numbers.bits import bits_for, pack_bits, unpack_bits


def test_bits_for():
    assert [bits_for(count) for count in (1, 2, 3, 4, 5, 16, 17, 255, 256)] == [1, 1, 2, 2, 3, 4, 5, 8, 8]


@given(st.integers(1, 8), st.sampled_from([(), (1,), (3,)]), st.integers(0, 30), st.integers(0, 99))
def test_every_number_lies_where_it_should(bits, rows, count, seed):
    values = np.random.default_rng(seed).integers(0, 1 << bits, (*rows, count)).astype(np.uint8)
    packed = pack_bits(values, bits)
    assert packed.dtype == np.uint8 and packed.shape == (*rows, -(-count * bits // 8))
    for row, given_row in zip(np.atleast_2d(packed), np.atleast_2d(values), strict=True):
        stream = int.from_bytes(row.tobytes(), "little")
        assert stream == sum(int(value) << (i * bits) for i, value in enumerate(given_row))
    np.testing.assert_array_equal(unpack_bits(packed, bits, count), values, strict=True)


@pytest.mark.parametrize("bits", [4, 6])
def test_the_input_is_unchanged(bits):
    values = np.arange(9, dtype=np.uint8)
    values.flags.writeable = False
    pack_bits(values, bits)
    assert values.tolist() == list(range(9))

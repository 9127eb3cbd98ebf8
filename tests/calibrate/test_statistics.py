import numpy as np
import pytest

from aerogel.calibrate import Moments, Statistics
from aerogel.errors import DataError, ShapeError


def test_of_inputs():
    x = np.array([[1, -4], [3, 2]], np.float32)
    statistics = Statistics.of(x)
    assert statistics.tokens == 2 and statistics.inputs == 2
    assert statistics.gram.tolist() == [[5, 1], [1, 10]] and statistics.gram.dtype == np.float32
    assert statistics.largest.tolist() == [3, 4]
    np.testing.assert_allclose(statistics.norms, [5**0.5, 10**0.5])


def test_what_cannot_be():
    gram, largest = np.eye(3, dtype=np.float32), np.ones(3, np.float32)
    with pytest.raises(ShapeError, match=r"gram: expected \[K, K\], got \[3, 2\]"):
        Statistics(1, gram[:, :2], largest)
    with pytest.raises(ShapeError, match=r"largest: expected \[3\], got \[2\]"):
        Statistics(1, gram, largest[:2])
    with pytest.raises(ShapeError, match="expected float32, got float64"):
        Statistics(1, gram.astype(np.float64), largest)
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match="NaN or infinite"):
            Statistics(1, gram * np.float32(bad), largest)
    with pytest.raises(DataError, match="no negative square"):
        Statistics(1, -gram, largest)
    with pytest.raises(DataError, match="tokens: expected at least 1, got 0"):
        Statistics(0, gram, largest)
    with pytest.raises(ShapeError, match="at least one token"):
        Statistics.of(np.ones((0, 3), np.float32))


def test_weighted():
    """A row of weight 2 counts as two rows; one of weight 0 not at all."""
    x = np.random.default_rng(4).standard_normal((5, 3)).astype(np.float32)
    moments = Moments()
    moments.add(x[:3], np.array([2, 1, 0], np.float32))
    moments.add(x[3:])
    got, expected = moments.statistics(), Statistics.of(x[[0, 0, 1, 3, 4]])
    np.testing.assert_allclose(got.gram, expected.gram, rtol=1e-5)
    assert got.tokens == 5 and (got.largest == np.abs(x).max(axis=0)).all()

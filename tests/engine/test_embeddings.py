"""What is done to embeddings after the model, against the formulas written out."""

import numpy as np
import pytest

from aerogel.engine.embeddings import (
    PRECISIONS,
    normalized,
    pairwise_similarity,
    quantized,
    shortened,
    similarity,
)
from aerogel.errors import AerogelError, DataError, ShapeError

ROWS = np.random.default_rng(0).standard_normal((7, 20)).astype(np.float32)


def test_shortened_and_normalized():
    assert shortened(ROWS, None) is ROWS and shortened(ROWS, 20) is ROWS and shortened(ROWS, 99) is ROWS
    np.testing.assert_array_equal(shortened(ROWS, 3), ROWS[:, :3])
    np.testing.assert_allclose(np.linalg.norm(normalized(ROWS), axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(normalized(np.zeros((2, 3), np.float32)), 0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_codes(precision):
    codes = quantized(ROWS, precision)
    if precision == "float32":
        assert codes is ROWS
    elif precision.endswith("int8"):
        assert codes.dtype == precision and codes.shape == ROWS.shape
        low, high = ROWS.min(0), ROWS.max(0)
        offset = 128 if precision == "int8" else 0
        back = low + (codes.astype(np.float32) + offset) * (high - low) / 255
        assert np.all(np.abs(back - ROWS) <= (high - low) / 255 * 1.01)
    else:
        assert codes.shape == (7, 3) and codes.dtype == (np.int8 if precision == "binary" else np.uint8)
        bits = np.unpackbits((codes.astype(np.int32) + (128 if precision == "binary" else 0)).astype(np.uint8), axis=1)
        np.testing.assert_array_equal(bits[:, :20].astype(bool), ROWS > 0)


def test_codes_at_the_edges():
    with pytest.raises(DataError, match="at least 2 texts"):
        quantized(ROWS[:1], "int8")
    assert quantized(ROWS[:0], "uint8").shape == (0, 20)
    same = quantized(np.ones((3, 4), np.float32), "int8")  # a range of nothing
    np.testing.assert_array_equal(same, -128)


def _expected(name, a, b):
    if name == "cosine":
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    if name == "dot":
        return a @ b
    return -np.linalg.norm(a - b) if name == "euclidean" else -np.abs(a - b).sum()


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarities(name):
    a, b = ROWS[:3], ROWS[2:]
    got = similarity(name, a, b)
    assert got.shape == (3, 5) and got.dtype == np.float32
    np.testing.assert_allclose(got, [[_expected(name, x, y) for y in b] for x in a], atol=1e-5)
    pairs = zip(a, ROWS[3:6], strict=True)
    np.testing.assert_allclose(
        pairwise_similarity(name, a, ROWS[3:6]), [_expected(name, x, y) for x, y in pairs], atol=1e-5
    )
    np.testing.assert_allclose(similarity(name, a[0], list(b)), got[:1], atol=1e-5)
    assert similarity(name, ROWS[:0], b).shape == (0, 5)


def test_similarities_refuse():
    with pytest.raises(ShapeError, match="one width, got 20 and 3"):
        similarity("dot", ROWS, ROWS[:, :3])
    with pytest.raises(ShapeError, match="rows of one width, got 1, 2"):
        similarity("dot", [[1, 2], [3]], ROWS)
    with pytest.raises(ShapeError, match="one shape"):
        pairwise_similarity("dot", ROWS, ROWS[:3])
    with pytest.raises(AerogelError, match="similarity: expected one of"):
        similarity("hamming", ROWS, ROWS)
    with pytest.raises(AerogelError):
        similarity("dot", "text", ROWS)

"""What every scheme promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerogel.errors import DataError, RecipeError, ShapeError
from aerogel.quantize import quantize, scheme
from aerogel.quantize.stored import to_weight

NAMES = [
    "int8",
    "int8:g32",
    "int8:g64",
    "int8:g128",
    "int4:g32",
    "int4:g64",
    "int4:g128",
    "int4:g32:asym",
    "int4:g64:asym",
    "codebook:4",
    "codebook:16",
    "codebook:17",
    "codebook:64",
    "codebook:256",
    "bf16",
    "none",
]


def gaussian(n=24, k=200, zeros=0.0, seed=0, size=1.0):
    random = np.random.default_rng(seed)
    w = random.standard_normal((n, k)) * random.uniform(0.2, 3, (n, 1)) * size
    return np.where(random.random((n, k)) < zeros, 0, w).astype(np.float32)


def decoded(quantized):
    """Codes and scales, one number at a time, as the file's definition says."""
    n, k = quantized.values.shape
    w = np.zeros((n, k), np.float32)
    for i in range(n):
        for j in range(k):
            g = j // quantized.group if quantized.group else 0
            code = int(quantized.values[i, j])
            if quantized.levels is not None and code != 0:  # it must be in the table
                offset = int(quantized.offset[i, g]) if quantized.offset is not None else 0
                multiplier = int(quantized.multiplier[i, g]) if quantized.multiplier is not None else 1
                assert code in {int(level) * multiplier + offset for level in quantized.levels}
            scale = quantized.scale[i] if quantized.scale.ndim == 1 else quantized.scale[i, g]
            w[i, j] = np.float32(code) * scale
    return w


@pytest.mark.parametrize("name", NAMES)
def test_names_say_what_they_are(name):
    assert scheme(name).name == name and name in repr(scheme(name))


def test_short_names():
    assert scheme("int4").name == "int4:g32:asym" and scheme("int4:asym").name == "int4:g64:asym"
    assert scheme("codebook").name == "codebook:16"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("int3", "'int3' is unknown, only int8, int4, codebook, bf16, none"),
        ("", "'' is unknown"),
        ("int8:64", "'int8:64': expected a group of g32, g64, g128, got '64'"),
        ("int8:g63", "got 'g63'"),
        ("int8:g", "got 'g'"),
        ("int8:g64:asym", "'int8:g64:asym': 'asym' is unknown"),
        ("int4:g256", "got 'g256'"),
        ("int4:symm", "'symm' is unknown"),
        ("int4:asym:g64", "'g64' is unknown"),
        ("int4:g64:asym:asym", "'asym' is unknown"),
        ("codebook:3", "expected 4 to 256 entries, got '3'"),
        ("codebook:257", "got '257'"),
        ("codebook:-4", "got '-4'"),
        ("codebook:16:16", "'16' is unknown"),
        ("codebook:", "got ''"),
        ("bf16:g64", "'g64' is unknown"),
        ("none:x", "'x' is unknown"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(RecipeError, match=message):
        scheme(name)


@pytest.mark.parametrize("zeros", [0.0, 0.1, 0.8])
@pytest.mark.parametrize("name", NAMES)
def test_codes_are_what_they_decode_to(name, zeros):
    w = gaussian(7, 150, zeros)
    before = w.copy()
    quantized = quantize(name, w)
    assert np.array_equal(w, before)
    if quantized.scale is not None:
        assert quantized.values.dtype == np.int8 and quantized.scale.dtype == np.float32
        assert quantized.values.min() >= -127
        np.testing.assert_array_equal(quantized.dense(), decoded(quantized), strict=True)
    assert not quantized.dense()[w == 0].any()
    again = quantize(name, w)
    for a, b in zip(vars(quantized).values(), vars(again).values(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("zeros", [0.0, 0.1, 0.8])
@pytest.mark.parametrize("name", NAMES)
def test_columns_are_rounded_as_the_whole_is(name, zeros):
    w = gaussian(9, 150, zeros, seed=1)
    grid = scheme(name).grid(w)
    whole = grid.quantize(w).dense()
    for ends in ([0, 150], [0, 1, 31, 64, 70, 129, 150]):
        parts = [grid.round(w[:, a:b], a) for a, b in zip(ends, ends[1:], strict=False)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole, strict=True)
    # What was rounded, a method hands in again: it must stay.
    np.testing.assert_array_equal(grid.quantize(whole).dense(), whole)


@pytest.mark.parametrize("name", NAMES)
def test_other_weights_than_the_grid_was_made_of(name):
    """Compensation moves weights, perhaps out of reach, and prunes some of them."""
    w = gaussian(5, 100, seed=2)
    grid = scheme(name).grid(w)
    moved = gaussian(5, 100, 0.5, seed=3, size=30)
    quantized = grid.quantize(moved)
    assert not quantized.dense()[moved == 0].any()
    np.testing.assert_array_equal(to_weight(quantized).dense(), quantized.dense())
    values = grid.round(moved, 0)
    for other in (grid.round(w, 0), np.roll(values, 1, 0)):  # none of these values of the same group may be nearer
        if name in ("none", "bf16"):
            break
        same_row = np.roll(other, 32, 1) if other is values else other
        assert (np.abs(values - moved) <= np.abs(grid.round(same_row, 0) - moved) + 1e-5 * np.abs(moved)).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("bf16", "none")])
def test_zeros_have_no_part_in_the_fit(name):
    """What is left of a pruned matrix keeps at least the precision that it has alone."""
    w = gaussian(64, 256, 0.75, seed=4) + 0  # large enough that a mask pays for its place in the file
    w[w != 0] += np.sign(w[w != 0]) * 3  # far from zero, as magnitude pruning leaves it
    kept = w != 0
    error = np.linalg.norm(quantize(name, w).dense() - w) / np.linalg.norm(w)
    filled = np.where(kept, w, np.sign(gaussian(64, 256, seed=5)) * 3.5)
    filled_error = np.linalg.norm((quantize(name, filled).dense() - filled)[kept]) / np.linalg.norm(w)
    assert error <= filled_error * 1.1 + 1e-6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 8), (3, 33), (2, 129), (70, 1)])
@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e-30, 1.0, 1e30, 1e38])
def test_any_shape_and_size(name, shape, size):
    w = gaussian(*shape, seed=6).astype(np.float64)
    w = (w / np.abs(w).max() * size).astype(np.float32)
    quantized = quantize(name, w)
    dense = quantized.dense()
    assert np.isfinite(dense).all() and dense.shape == w.shape
    bound = {"int8": 0.012, "int4": 0.2, "code": 0.6, "bf16": 0.004, "none": 0}[name[:4]]
    if 1e-35 < size:
        scaled = [array.astype(np.float64) / size for array in (dense, w)]
        assert np.linalg.norm(scaled[0] - scaled[1]) <= bound * np.linalg.norm(scaled[1]) + 1e-9
    for sparse in (None, False, True):
        np.testing.assert_array_equal(to_weight(quantized, sparse).dense(), dense)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "codebook:4"])  # it spends its 4 on the largest row
def test_rows_of_zeros_and_of_one_value(name):
    w = np.zeros((6, 130), np.float32)
    w[1] = 0.37
    w[2] = -2.5e5
    w[3, 77] = 1e-3
    w[4] = np.where(np.arange(130) % 2, 0.5, -0.5)
    w[5, :64] = 1e-44  # too small for any scale
    dense = quantize(name, w).dense()
    assert not dense[0].any() and not dense[3, :77].any() and not dense[3, 78:].any()
    exact = name in ("none", "bf16")
    np.testing.assert_allclose(dense[1:5], w[1:5], rtol=0.005 if exact or "int" in name else 0.15)
    assert (np.abs(dense[5]) <= 1e-43).all()
    assert not quantize(name, np.zeros((3, 40), np.float32)).dense().any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(name, bad):
    w = gaussian(3, 40)
    w[1, 2] = bad
    with pytest.raises(DataError, match="NaN or infinite"):
        scheme(name).grid(w)
    with pytest.raises(DataError, match="NaN or infinite"):
        scheme(name).grid(gaussian(3, 40)).quantize(w)


@pytest.mark.parametrize("name", NAMES)
def test_not_a_matrix(name):
    with pytest.raises(ShapeError, match=r"expected \[N, K\], got \[3\]"):
        scheme(name).grid(np.ones(3, np.float32))


def relative_error(name, w):
    return np.linalg.norm(quantize(name, w).dense() - w) / np.linalg.norm(w)


@pytest.mark.parametrize("zeros", [0.0, 0.05, 0.7])
@pytest.mark.parametrize(
    "names",
    [
        ("int8", "int8:g128", "int8:g64", "int8:g32"),
        ("int4:g128", "int4:g64", "int4:g32", "int8"),
        ("int4:g128:asym", "int4:g64:asym", "int4:g32:asym", "int8"),
        ("codebook:4", "codebook:8", "codebook:16", "codebook:32", "codebook:64", "codebook:128"),
        ("int4:g128", "int4:g128:asym"),
        ("codebook:128", "codebook:256", "none"),
    ],
)
def test_what_takes_more_bits_is_nearer(names, zeros):
    errors = [relative_error(name, gaussian(64, 512, zeros, seed=7)) for name in names]
    assert all(worse > better for worse, better in zip(errors, errors[1:], strict=False)), dict(
        zip(names, errors, strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.integers(1, 9),
    st.integers(1, 140),
    st.sampled_from([0.0, 0.2, 0.9]),
    st.sampled_from(["gaussian", "few values", "outliers", "positive"]),
    st.integers(0, 999),
)
def test_stored_and_read_back(name, n, k, zeros, kind, seed):
    w = gaussian(n, k, zeros, seed)
    if kind == "few values":
        w = np.rint(w)
    elif kind == "outliers":
        w[0, 0] = 1e4
    elif kind == "positive":
        w = np.abs(w)
    quantized = quantize(name, w)
    for sparse in (None, False, True):
        weight = to_weight(quantized, sparse)
        np.testing.assert_array_equal(weight.dense(), quantized.dense())
        assert weight.sparsity == pytest.approx(1 - np.count_nonzero(quantized.values) / w.size)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("int4", "codebook"))])
def test_columns_that_count_more_are_fitted_better(name):
    w, importance = gaussian(40, 256), np.full(256, 1e-4, np.float32)
    w[:, ::8] *= 0.2
    importance[::8] = 3  # only their ratio matters

    def lost(grid):
        return float((np.square(grid.round(w, 0) - w) * importance).sum())

    assert lost(scheme(name).grid(w, importance)) < 0.9 * lost(scheme(name).grid(w))
    alike = scheme(name).grid(w, np.full(256, 7, np.float32))
    assert np.array_equal(alike.round(w, 0), scheme(name).grid(w).round(w, 0))


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("int4", "codebook"))])
def test_importance_that_is_none(name):
    w = gaussian(3, 40)
    assert np.array_equal(scheme(name).grid(w, np.zeros(40, np.float32)).round(w, 0), scheme(name).grid(w).round(w, 0))
    with pytest.raises(ShapeError, match=r"importance: expected \[40\], one a column, got \[39\]"):
        scheme(name).grid(w, np.ones(39, np.float32))
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(DataError, match="negative, NaN or infinite"):
            scheme(name).grid(w, np.full(40, bad, np.float32))

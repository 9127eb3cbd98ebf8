import numpy as np
import pytest

import aerogel
from aerogel import _core, tuning
from aerogel.errors import AerogelError, DataError, RecipeError, ShapeError
from aerogel.numbers.bf16 import narrow, widen
from aerogel.quantize import quantize

scipy_sparse = pytest.importorskip("scipy.sparse")


def problem(n=33, k=70, zeros=0.8, seed=0):
    random = np.random.default_rng(seed)
    w = random.standard_normal((n, k)).astype(np.float32)
    w[random.random(w.shape) < zeros] = 0
    return w, random.standard_normal(n).astype(np.float32), random.standard_normal((5, k)).astype(np.float32)


@pytest.mark.parametrize("zeros", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("kind", ["dense", "csr", "coo"])
def test_float_weights(kind, zeros):
    w, b, x = problem(zeros=zeros)
    given = w if kind == "dense" else getattr(scipy_sparse, kind + "_matrix")(w)
    layer = aerogel.Linear(given, b, quant="none")
    y = layer(x)
    assert y.dtype == np.float32
    bound = 2.0**-24 * (w.shape[1] + 3) * (np.abs(x) @ np.abs(w).T + np.abs(b))
    assert (np.abs(y - (x.astype(np.float64) @ w.T + b)) <= bound + 1e-30).all()
    assert layer.shape == w.shape and layer.sparsity == pytest.approx(1 - np.count_nonzero(w) / w.size)


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize(
    "format", ["auto", "dense_q8", "gathered_q8", "quads_q8", "blocks_q8", "rows_q8", "gathered_rows_q8"]
)
def test_int8_weights_are_exact_in_integers(kind, format):
    w, b, x = problem()
    layer = aerogel.Linear(w if kind == "dense" else scipy_sparse.csr_matrix(w), b, format=format)
    w_scale = (np.abs(w).max(1) / np.float32(127)).astype(np.float32)
    codes = np.rint(w / w_scale[:, None]).astype(np.int64)
    largest = np.abs(x).max(1, keepdims=True)
    q = np.rint(x * (np.float32(127) / largest)).astype(np.int64)
    sums = (q @ codes.T).astype(np.float32)
    expected = sums * ((largest / np.float32(127)) * w_scale) + b
    np.testing.assert_array_equal(layer(x), expected.astype(np.float32))
    assert format in ("auto", layer.forms[-1]["format"])


@pytest.mark.parametrize("zeros", [0.0, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("format", ["auto", "dense_bf16", "masked_bf16", "dense_f32", "csr_f32"])
def test_bf16_weights_are_all_that_is_rounded(zeros, kind, format):
    w, b, x = problem(zeros=zeros)
    layer = aerogel.Linear(w if kind == "dense" else scipy_sparse.csr_matrix(w), b, quant="bf16", format=format)
    rounded = widen(narrow(w))
    bound = 2.0**-24 * (w.shape[1] + 3) * (np.abs(x) @ np.abs(rounded).T + np.abs(b))
    assert (np.abs(layer(x) - (x.astype(np.float64) @ rounded.T + b)) <= bound + 1e-30).all()
    assert (np.abs(layer(x) - (x @ w.T + b)) <= 2.0**-7.9 * (np.abs(x) @ np.abs(w).T) + 1e-5).all()
    assert format in ("auto", layer.forms[-1]["format"])


SCHEMES = ("int8", "int8:g64", "int4:g64", "int4:g64:asym", "codebook:16", "codebook:64", "bf16", "none")
PATTERNS = ("dense", "unstructured", "8:64", "2:4", "1x4")


def pruned(pattern, n=33, k=200, seed=0):
    """A matrix whose zeros lie so; K is no multiple of a group."""
    random = np.random.default_rng(seed)
    w = random.standard_normal((n, k)).astype(np.float32)
    if pattern == "unstructured":
        w[random.random(w.shape) < 0.8] = 0
    elif pattern != "dense":
        kept, width = {"8:64": (8, 64), "2:4": (2, 4), "1x4": (1, 4)}[pattern]
        if pattern == "1x4":
            return np.where(np.repeat(random.random((n, k // 4)) < 0.25, 4, axis=1), w, np.float32(0))
        for begin in range(0, k, width):
            part = w[:, begin : begin + width]
            order = np.argsort(random.random(part.shape), axis=1)
            part[order >= kept] = 0
    return w


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("quant", SCHEMES)
def test_every_scheme_with_every_pattern_in_every_format(quant, pattern, kind):
    w = pruned(pattern)
    x = np.random.default_rng(1).standard_normal((9, 200)).astype(np.float32)
    b = np.random.default_rng(2).standard_normal(33).astype(np.float32)
    stored = quantize(quant, w)
    dense = stored.dense()
    assert not dense[w == 0].any() and np.linalg.norm(dense - w) < 0.15 * np.linalg.norm(w)
    numbers = (
        "float32" if quant == "none" else "bf16" if quant == "bf16" else "int8g" if quant == "int8:g64" else "int8"
    )
    four_bits = {"int4": ("dense_q4", "masked_q4"), "codebook:16": ("masked_q4",)}.get(quant.split(":g")[0], ())
    if quant.endswith("asym") and pattern == "dense":  # a mask is filled with the index of 0, which not every group has
        four_bits = ("dense_q4",)
    for format in ("auto", *tuning.FORMATS[numbers], *four_bits):
        layer = aerogel.Linear(w if kind == "dense" else scipy_sparse.csr_matrix(w), b, quant=quant, format=format)
        assert layer.sparsity == pytest.approx(1 - np.count_nonzero(dense) / w.size)
        if numbers == "int8":  # exact in integers
            largest = np.abs(x).max(1, keepdims=True)
            q = np.rint(x * (np.float32(127) / largest)).astype(np.int64)
            sums = (q @ stored.values.astype(np.int64).T).astype(np.float32)
            expected = (sums * ((largest / np.float32(127)) * stored.scale) + b).astype(np.float32)
            np.testing.assert_array_equal(layer(x), expected, format)
        elif numbers == "int8g" and format in (
            "auto",
            "grouped_q8",
        ):  # exact within a group, then in order
            largest = np.abs(x).max(1, keepdims=True)
            q = np.rint(x * (np.float32(127) / largest)).astype(np.int64)
            total = np.zeros((9, 33), np.float32)
            for g in range(stored.scale.shape[1]):
                part = slice(64 * g, 64 * g + 64)
                sums = (q[:, part] @ stored.values[:, part].astype(np.int64).T).astype(np.float32)
                total += stored.scale[:, g] * sums
            np.testing.assert_array_equal(layer(x), total * (largest / np.float32(127)) + b, format)
        else:
            bound = 2.0**-24 * (w.shape[1] + 3) * (np.abs(x) @ np.abs(dense).T + np.abs(b))
            assert (np.abs(layer(x) - (x.astype(np.float64) @ dense.T + b)) <= bound + 1e-30).all(), format


def test_bf16_is_half_the_size():
    w, _, _ = problem(n=64, k=1024, zeros=0)
    full, half = aerogel.Linear(w, quant="none"), aerogel.Linear(w, quant="bf16")
    assert half.forms[0]["format"] == "dense_bf16" and half.nbytes * 2 == full.nbytes
    assert aerogel.Linear(problem(n=64, k=1024, zeros=0.6)[0], quant="bf16").nbytes < 0.6 * half.nbytes


def test_any_leading_shape():
    w, b, x = problem()
    layer = aerogel.Linear(w, b, quant="none")
    assert layer(x[0]).shape == (33,)
    assert layer(x[:4].reshape(2, 2, 70)).shape == (2, 2, 33)
    assert layer(x[:0]).shape == (0, 33)
    np.testing.assert_allclose(layer(x.astype(np.float64)), layer(x))
    np.testing.assert_array_equal(layer(np.asfortranarray(x)), layer(x))
    assert "33, 70" in repr(layer)


def test_what_linear_refuses():
    w, b, x = problem()
    layer = aerogel.Linear(w, b)
    with pytest.raises(ShapeError, match=r"x: expected \[..., 70\], got \[5, 69\]"):
        layer(x[:, :69])
    with pytest.raises(ShapeError, match=r"bias: expected \[33\], got \[32\]"):
        aerogel.Linear(w, b[:32])
    with pytest.raises(ShapeError, match=r"weight: expected \[N, K\]"):
        aerogel.Linear(w[0])
    with pytest.raises(RecipeError, match="'int3' is unknown"):
        aerogel.Linear(w, quant="int3")
    with pytest.raises(AerogelError, match="banana"):
        aerogel.Linear(w, format="banana")
    with pytest.raises(DataError, match="weight: expected numbers, got"):
        aerogel.Linear(w.astype(str))
    for bad in (np.nan, np.inf):
        broken = w.copy()
        broken[3, 4] = bad
        for given in (broken, scipy_sparse.csr_matrix(broken)):
            for quant in SCHEMES:
                with pytest.raises(DataError):
                    aerogel.Linear(given, quant=quant)


@pytest.mark.parametrize("zeros", [0.0, 0.9, 1.0])
def test_csr_matmul(zeros):
    a, _, _ = problem(zeros=zeros)
    csr = scipy_sparse.csr_matrix(a)
    x = np.random.default_rng(1).standard_normal((70, 9)).astype(np.float32)
    expected = a.astype(np.float64) @ x
    for given in (csr, csr.tocsc(), (csr.indptr, csr.indices, csr.data)):
        y = aerogel.csr_matmul(given, x)
        assert y.dtype == np.float32 and y.shape == (33, 9) and y.flags.c_contiguous
        np.testing.assert_allclose(y, expected, atol=1e-4)
        np.testing.assert_allclose(aerogel.csr_matmul(given, x[:, 0]), expected[:, 0], atol=1e-4)


def test_csr_in_any_order_and_with_repeats():
    indptr, indices, data = [0, 3, 3, 5], [4, 0, 4, 1, 1], [1.0, 2.0, 3.0, 5.0, -5.0]
    x = np.eye(6, dtype=np.float32)
    expected = scipy_sparse.csr_matrix((data, indices, indptr), (3, 6)).toarray()
    np.testing.assert_array_equal(aerogel.csr_matmul((indptr, indices, data), x), expected)


@pytest.mark.parametrize(
    "csr, message",
    [
        (([0, 1], [6], [1.0]), r"column 6 in row 0, expected \[0, 6\)"),
        (([0, 1], [-1], [1.0]), r"column -1 in row 0, expected \[0, 6\)"),
        (([0, 2, 1], [0, 1], [1.0, 2.0]), "indptr falls from 2 to 1 at row 1"),
        (([0, 3, 2], [0, 1], [1.0, 2.0]), "indptr falls from 3 to 2 at row 1"),
        (([1, 2], [0, 1], [1.0, 2.0]), "indptr starts at 1, expected 0"),
        (([], [], []), "indptr: expected to rise"),
        (([0, 1], [0], [1.0, 2.0]), r"data: expected one value per index, \[1\], got \[2\]"),
        (([0, 1], [0.5], [1.0]), "indices: expected integers"),
        (([0, 1], [0], [np.nan]), r"the value at \[0, 0\] is nan"),
        (([0, 1], [0], ["x"]), "data: expected numbers"),
        (3, "expected a scipy.sparse matrix or three arrays"),
    ],
)
def test_broken_csr(csr, message):
    with pytest.raises(AerogelError, match=message):
        aerogel.csr_matmul(csr, np.eye(6, dtype=np.float32))


def test_csr_and_x_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"x: expected \[4, M\], got \[5, 2\]"):
        aerogel.csr_matmul(scipy_sparse.csr_matrix((3, 4)), np.ones((5, 2), np.float32))


@pytest.mark.parametrize("rows", [63, 64, 65, 127, 128, 129, 200, 333])
def test_threads_share_tokens_and_rows_without_changing_the_answer(rows):
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, 192)).astype(np.float32)
    for numbers in tuning.FORMATS:
        source, alive = tuning.random_source(numbers, 136, 192, 0.5)
        for format in tuning.FORMATS[numbers]:
            weight = _core.pack(source, format)
            alone = _core.linear(weight, x, threads=1)
            for threads in (2, 3):
                shared = _core.linear(weight, x, threads=threads)
                if numbers == "int8":
                    np.testing.assert_array_equal(shared, alone, f"{format}, {threads} threads")
                else:
                    np.testing.assert_allclose(shared, alone, atol=1e-4, err_msg=f"{format}, {threads} threads")
        del alive


@pytest.mark.parametrize(
    "quant, format", [("int8", "dense_q8"), ("none", "dense_f32"), ("bf16", "dense_bf16"), ("int4:g64", "dense_q8")]
)
def test_dense_is_the_dense_format_of_whatever_the_values_are(quant, format):
    weight = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)
    layer = aerogel.Linear(weight, quant=quant, format="dense")
    expected = aerogel.Linear(weight, quant=quant, format=format)
    assert layer.forms == expected.forms and layer.forms[0]["format"] == format
    x = np.ones((2, 64), np.float32)
    assert np.array_equal(layer(x), expected(x))


def test_a_tensor_that_needs_gradients_is_named():
    torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
    weight = torch.ones(8, 8, requires_grad=True)
    with pytest.raises(DataError, match="weight: expected an array of numbers"):
        aerogel.Linear(weight)
    assert aerogel.Linear(weight.detach()).shape == (8, 8)


@pytest.mark.parametrize("rows", [1, 3, 9, 40])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_csr_takes_infinite_inputs_as_scipy_does(value, rows):
    w, _, _ = problem()
    matrix = scipy_sparse.csr_matrix(w)
    x = np.ones((rows, w.shape[1]), np.float32)
    x[0, :] = value  # in every column, the last of each row among them
    x[-1, 7] = value
    expected = matrix @ x.T
    np.testing.assert_allclose(aerogel.csr_matmul(matrix, x.T), expected, rtol=1e-5, atol=1e-5)
    layer = aerogel.Linear(w, quant="none", format="csr_f32")
    np.testing.assert_allclose(layer(x), expected.T, rtol=1e-5, atol=1e-5)


def test_an_infinite_input_that_is_quantized_makes_its_own_row_nan():
    w, b, x = problem()
    x[2, 3] = np.inf
    for format in ("dense_q8", "gathered_q8", "quads_q8"):
        y = aerogel.Linear(w, b, format=format)(x)
        assert np.isnan(y[2]).all() and np.isfinite(np.delete(y, 2, axis=0)).all()

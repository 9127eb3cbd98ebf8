"""compressed-tensors behind bit masks: plain and quantized, in the names of both eras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerogel.checkpoint import open_checkpoint
from aerogel.errors import AerogelError, CheckpointError, DataError, MissingTensorsError, ShapeError

from ..reference import compressed_tensors as ct

M = "bert.encoder.layer.0.output.dense"
NAME = "encoder.layer.0.output.dense.weight"
INT8 = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}


def opened(folder: Path, tensors: ct.Tensors, weights: Any = None, **more: Any) -> Any:
    entry = ct.compression(weights, sparsity_config={"format": "sparse-bitmask", "global_sparsity": 50.797}, **more)
    return open_checkpoint(ct.write(folder, {"model_type": "bert", "quantization_config": entry}, tensors))


def sparse(shape: tuple[int, ...], seed: int = 0, keep: float = 0.4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.integers(-127, 128, shape) * (rng.random(shape) < keep)).astype(np.float32)


def halved(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """At most two of each four."""
    w = sparse(shape, seed, 0.8).reshape(-1, 4)
    w[np.arange(len(w)), np.random.default_rng(seed).integers(0, 2, len(w))] = 0
    w[np.arange(len(w)), np.random.default_rng(seed).integers(2, 4, len(w))] = 0
    return w.reshape(shape)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 20)),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from(["f4", "f2", "bf16"]),
    st.booleans(),
    st.integers(0, 99),
)
def test_floats(tmp_path_factory, shape, keep, kind, old, seed) -> None:
    w = sparse(shape, seed, keep)
    stored = ct.bf16(w) if kind == "bf16" else w.astype(kind)
    checkpoint = opened(tmp_path_factory.mktemp("m"), ct.behind_mask(M + ".weight", stored, old))
    assert checkpoint.names() == [NAME] and checkpoint.shape(NAME) == shape
    weight = checkpoint.weight(NAME)
    assert weight.mask is not None and weight.values.size == np.count_nonzero(w)
    assert weight.values.dtype == (np.uint16 if kind == "bf16" else np.float32)
    np.testing.assert_array_equal(weight.dense(), w, strict=True)
    np.testing.assert_array_equal(checkpoint.array(NAME), w, strict=True)


def test_before_0_9_every_parameter_is_behind_a_mask(tmp_path: Path) -> None:
    norm, bias, table = sparse((9,), 1), sparse((6,), 2, 1.0), sparse((11, 6), 3)
    tensors = {
        **ct.behind_mask("bert.embeddings.LayerNorm.gamma", norm, old=True),
        **ct.behind_mask(M + ".bias", bias, old=True),
        **ct.behind_mask("bert.embeddings.word_embeddings.weight", table, old=True),
        **ct.behind_mask("bert.embeddings.position_ids", np.arange(12)[None], old=True),
    }
    vector = "bert.embeddings.LayerNorm.gamma."  # its offsets may be a vector of one, its mask a matrix of one row
    tensors[vector + "row_offsets"] = tensors[vector + "row_offsets"].reshape(1)
    tensors[vector + "bitmask"] = tensors[vector + "bitmask"].reshape(1, -1)
    checkpoint = opened(tmp_path, tensors, version="0.8.1")
    assert checkpoint.names() == [
        "embeddings.LayerNorm.weight",
        "embeddings.word_embeddings.weight",
        "encoder.layer.0.output.dense.bias",
    ]
    np.testing.assert_array_equal(checkpoint.array("embeddings.LayerNorm.weight"), norm, strict=True)
    np.testing.assert_array_equal(checkpoint.array("encoder.layer.0.output.dense.bias"), bias, strict=True)
    np.testing.assert_array_equal(checkpoint.weight("embeddings.word_embeddings.weight").dense(), table)


@pytest.mark.parametrize("old", [False, True])
def test_over_int8(tmp_path: Path, old: bool) -> None:
    q = sparse((6, 20)).astype(np.int8)
    scale = np.linspace(0.5, 1, 6, dtype=np.float32)[:, None]
    beside: dict[str, Any] = {M + ".weight_scale": scale}
    if old:
        beside = ct.behind_mask(M + ".weight_scale", scale, old)
    checkpoint = opened(tmp_path, {**ct.behind_mask(M + ".weight", q, old), **beside}, INT8)
    weight = checkpoint.weight(NAME)
    assert weight.values.dtype == np.int8 and weight.mask is not None and weight.scale is not None
    assert weight.values.size == np.count_nonzero(q)
    np.testing.assert_array_equal(weight.dense(), ct.decode(q, scale, None, "channel"), strict=True)


def test_over_int8_with_zero_points_zeros_are_something_else(tmp_path: Path) -> None:
    q, zero = sparse((6, 20)).astype(np.int8), np.arange(6, dtype=np.int8)[:, None]
    scale = np.linspace(0.5, 1, 6, dtype=np.float32)[:, None]
    tensors = {**ct.behind_mask(M + ".weight", q), M + ".weight_scale": scale, M + ".weight_zero_point": zero}
    weight = opened(tmp_path, tensors, {**INT8, "symmetric": False}).weight(NAME)
    np.testing.assert_array_equal(weight.dense(), ct.decode(q, scale, zero, "channel"), strict=True)
    tensors[M + ".weight_zero_point"] = zero * 0
    assert opened(tmp_path, tensors, {**INT8, "symmetric": False}).weight(NAME).mask is not None


def test_over_groups_stays_behind_its_mask(tmp_path: Path) -> None:
    q, scale = sparse((6, 20)).astype(np.int8), np.random.default_rng(1).random((6, 3)).astype(np.float32)
    args = {"num_bits": 8, "strategy": "group", "group_size": 8}
    weight = opened(tmp_path, {**ct.behind_mask(M + ".weight", q), M + ".weight_scale": scale}, args).weight(NAME)
    assert weight.values.dtype == np.float32 and weight.values.size == np.count_nonzero(q)
    np.testing.assert_array_equal(weight.dense(), ct.decode(q, scale, None, "group", 8), strict=True)


@pytest.mark.parametrize("kind", ["f4", "bf16", "i1"])
def test_two_of_four(tmp_path: Path, kind: str) -> None:
    w = halved((6, 20))
    if kind == "i1":
        scale = np.full((6, 1), 0.25, np.float32)
        tensors = {**ct.two_of_four(M + ".weight", w.astype(np.int8)), M + ".weight_scale": scale}
        weight = opened(tmp_path, tensors, INT8).weight(NAME)
        assert weight.values.dtype == np.int8
        w = w * np.float32(0.25)
    else:
        stored = ct.bf16(w) if kind == "bf16" else w
        weight = opened(tmp_path, ct.two_of_four(M + ".weight", stored)).weight(NAME)
    np.testing.assert_array_equal(weight.dense(), w, strict=True)
    assert weight.values.size == np.count_nonzero(w) < 60  # stored zeros are gone from the mask


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_two_of_four_over_8_bit_floats(tmp_path: Path, dtype: str) -> None:
    raw = np.abs(halved((6, 20))).astype(np.uint8) % 120
    widened = np.array([[(ct.e4m3 if dtype == "F8_E4M3" else ct.e5m2)(c) for c in row] for row in raw], np.float32)
    tensors = {**ct.two_of_four(M + ".weight", ct.Typed(raw, dtype)), M + ".weight_scale": np.array([0.5], "f4")}
    weight = opened(tmp_path, tensors, {"num_bits": 8, "type": "float", "strategy": "tensor"}).weight(NAME)
    assert weight.mask is not None
    np.testing.assert_array_equal(weight.dense(), widened * np.float32(0.5), strict=True)


def part(name: str, value: Any, form: Any = ct.behind_mask) -> dict[str, Any]:
    tensors = form(M + ".weight", halved((6, 20)))
    tensors[f"{M}.{name}"] = value(tensors[f"{M}.{name}"]) if callable(value) else value
    return {key: array for key, array in tensors.items() if array is not None}


def put(place: Any, value: Any) -> Any:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[place] = value
        return array

    return change


HALF = ct.two_of_four


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        (part("compressed", lambda a: a[:-1]), DataError, "as many values as the bitmask has bits"),
        (part("compressed", lambda a: a[None]), ShapeError, "expected the values in a vector"),
        (part("compressed", put(0, np.inf)), DataError, "expected finite values, got 1 of"),
        (part("compressed", lambda a: a.astype("i8")), AerogelError, "expected one of F32, F16, BF16, got I64"),
        (part("bitmask", put((0, 0), 255)), DataError, "as many values as the bitmask has bits"),
        (part("bitmask", put((3, 2), 16)), DataError, "expected no bits beyond column 19"),
        (part("bitmask", lambda a: a[:, :-1]), ShapeError, r"expected U8 \[6, 3\], got U8 \[6, 2\]"),
        (part("bitmask", lambda a: a.astype("i1")), ShapeError, "got I8"),
        (part("row_offsets", put(4, 3)), DataError, r"row_offsets: row 4: expected \d+, .* got 3"),
        (part("row_offsets", lambda a: np.append(a, a[-1])), ShapeError, r"expected I64 \[6\], got I64 \[7\]"),
        (part("row_offsets", lambda a: a.astype("i4")), ShapeError, "got I32"),
        (part("shape", np.array([6, 200])), ShapeError, r"shape \[6, 200\]: expected U8 \[6, 25\], got U8 \[6, 3\]"),
        (part("shape", np.array([2**40, 2**20])), ShapeError, "expected U8"),
        (part("shape", np.array([-6, 20])), ShapeError, "expected a tensor's shape"),
        (part("shape", np.zeros(0, "i8")), ShapeError, "expected a tensor's shape"),
        (part("shape", np.array([[6, 20]])), CheckpointError, r"expected I64 \[dimensions\], got I64 \[1, 2\]"),
        (part("shape", np.array([6.0, 20])), CheckpointError, "got F64"),
        (part("shape", None), MissingTensorsError, "output.dense.weight: shape"),
        (part("bitmask", None), MissingTensorsError, "output.dense.weight: bitmask"),
        (part("compressed", None), MissingTensorsError, "output.dense.weight: compressed"),
        (part("weight", np.ones((6, 20), "f4"), lambda n, w: {**ct.behind_mask(n, w), n: w}), CheckpointError, "twice"),
        (part("compressed", lambda a: a[:, :-1], HALF), ShapeError, "half as many values"),
        (part("shape", np.array([[6], [22]]), HALF), ShapeError, "multiple of 4 columns"),
        (part("bitmask", put((0, 0), 0b01110001), HALF), DataError, "two bits in each four"),
        (part("bitmask", put((0, 0), 0b01110011), HALF), DataError, "as many values as the bitmask has bits"),
    ],
)  # fmt: skip
def test_broken_files_are_named_errors(
    tmp_path: Path, tensors: dict[str, Any], error: type[AerogelError], message: str
) -> None:
    with pytest.raises(error, match=message):
        opened(tmp_path, tensors).weight(NAME)

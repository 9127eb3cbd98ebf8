"""compressed-tensors: quantized matrices of every strategy, against an element-by-element reference."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerogel.checkpoint import Weight, open_checkpoint
from aerogel.checkpoint.compressed_tensors import CompressedTensorsCheckpoint, StaticInput
from aerogel.errors import (
    AerogelError,
    CheckpointError,
    DataError,
    MissingTensorsError,
    ShapeError,
    UnsupportedModelError,
)

from ..reference import compressed_tensors as ct

M = "bert.encoder.layer.0.output.dense"
NAME = "encoder.layer.0.output.dense.weight"
INT8 = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
FP8 = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"}
INT4 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 8}


def opened(folder: Path, tensors: ct.Tensors, weights: Any = INT8, **more: Any) -> CompressedTensorsCheckpoint:
    config = {"model_type": "bert", "quantization_config": ct.compression(weights, **more)}
    checkpoint = open_checkpoint(ct.write(folder, config, tensors))
    assert isinstance(checkpoint, CompressedTensorsCheckpoint)
    return checkpoint


def codes(shape: tuple[int, int] = (6, 20), bits: int = 8, seed: int = 0, low: int | None = None) -> np.ndarray:
    half = 1 << (bits - 1)
    return np.random.default_rng(seed).integers(-half if low is None else low, half, shape).astype(np.int8)


def scales(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) + 0.25).astype(np.float32)


def check(weight: Weight, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(weight.dense(), expected, strict=True)


def test_symmetric_channels_stay_codes_of_the_file(tmp_path: Path) -> None:
    q, scale = codes(low=-127), scales((6, 1))
    checkpoint = opened(tmp_path, {M + ".weight": q, M + ".weight_scale": scale, M + ".bias": np.ones(6, np.float32)})
    assert checkpoint.kind == "compressed-tensors" and checkpoint.config == {"model_type": "bert"}
    assert checkpoint.names() == ["encoder.layer.0.output.dense.bias", NAME] and NAME in checkpoint
    assert checkpoint.shape(NAME) == (6, 20)
    weight = checkpoint.weight(NAME)
    assert weight.values.dtype == np.int8 and not weight.values.flags.owndata
    check(weight, ct.decode(q, scale, None, "channel"))
    check(Weight((6, 20), checkpoint.array(NAME)), ct.decode(q, scale, None, "channel"))
    np.testing.assert_array_equal(checkpoint.array(NAME[:-6] + "bias"), np.ones(6, np.float32))
    check(weight, ct.decode(q, scale, None, "channel"))


@pytest.mark.parametrize("scale_type", ["F32", "F16", "BF16"])
def test_tensor_scales_of_every_float(tmp_path: Path, scale_type: str) -> None:
    scale = np.array([0.375], np.float32)
    stored = {"F32": scale, "F16": scale.astype(np.float16), "BF16": ct.bf16(scale)}[scale_type]
    q = codes(low=-127)
    weights = {"num_bits": 8, "symmetric": True}  # no strategy, no group size: the tensor
    weight = opened(tmp_path, {M + ".weight": q, M + ".weight_scale": stored}, weights).weight(NAME)
    assert weight.values.dtype == np.int8
    check(weight, ct.decode(q, scale, None, "tensor"))


def test_the_code_that_int8_kernels_do_not_have(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    q, scale = codes(low=-127), scales((6, 1))
    q[2, 3] = q[4, 5] = -128
    checkpoint = opened(tmp_path, {M + ".weight": q, M + ".weight_scale": scale})
    with caplog.at_level("INFO", "aerogel"):
        weight = checkpoint.weight(NAME)
    assert weight.values.dtype == np.float32 and "2 codes are -128" in caplog.text
    check(weight, ct.decode(q, scale, None, "channel"))


@pytest.mark.parametrize(("bits", "stays"), [(8, False), (4, True)])
def test_zero_points(tmp_path: Path, bits: int, stays: bool) -> None:
    q, scale, zero = codes(bits=bits), scales((6, 1)), codes((6, 1), bits, 3)
    assert (np.abs(q.astype(int) - zero).max() <= 127) == stays
    tensors = {M + ".weight": q, M + ".weight_scale": scale, M + ".weight_zero_point": zero}
    weight = opened(tmp_path, tensors, {**INT8, "num_bits": bits, "symmetric": False}).weight(NAME)
    assert weight.values.dtype == (np.int8 if stays else np.float32)
    check(weight, ct.decode(q, scale, zero, "channel"))


def test_negative_scales_are_decoded(tmp_path: Path) -> None:
    q, scale = codes(low=-127), -scales((6, 1))
    weight = opened(tmp_path, {M + ".weight": q, M + ".weight_scale": scale}).weight(NAME)
    assert weight.values.dtype == np.float32
    check(weight, ct.decode(q, scale, None, "channel"))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["tensor", "channel", "group", "block"]),
    st.tuples(st.integers(1, 7), st.integers(1, 19)),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 8),
    st.booleans(),
    st.sampled_from(["int", "packed", "float"]),
    st.integers(0, 1000),
)
def test_every_strategy(tmp_path_factory, strategy, shape, height, width, bits, symmetric, form, seed) -> None:
    grid = {
        "tensor": (1,),
        "channel": (shape[0], 1),
        "group": (shape[0], -(-shape[1] // width)),
        "block": (-(-shape[0] // height), -(-shape[1] // width)),
    }[strategy]
    args: dict[str, Any] = {"num_bits": 8 if form == "float" else bits, "symmetric": symmetric, "strategy": strategy}
    args["type"] = "float" if form == "float" else "int"
    args |= {"group_size": width} if strategy == "group" else {}
    args |= {"block_structure": f"{height}x{width}"} if strategy == "block" else {}
    scale = scales(grid, seed)
    q = codes(shape, bits, seed)
    zero = None if symmetric or form == "float" else codes(grid, bits, seed + 1)
    tensors: dict[str, Any] = {M + ".weight_scale": scale}
    if form == "float":
        raw = np.random.default_rng(seed).integers(0, 127, shape).astype(np.uint8)
        q = np.array([[ct.e4m3(code) for code in row] for row in raw], np.float32)
        tensors[M + ".weight"] = ct.Typed(raw, "F8_E4M3")
    elif form == "int":
        tensors[M + ".weight"] = q
    else:
        tensors[M + ".weight_packed"] = ct.words_of(q, bits, stream=True)
        tensors[M + ".weight_shape"] = np.array(shape, np.int64)
    if zero is not None:
        tensors[M + ".weight_zero_point"] = zero
    checkpoint = opened(tmp_path_factory.mktemp("m"), tensors, args, version="0.18.0")
    expected = ct.decode(q, scale, zero, strategy, width, (height, width))
    check(checkpoint.weight(NAME), expected)
    np.testing.assert_array_equal(checkpoint.array(NAME), expected)


def test_all_8_bit_floats() -> None:
    from aerogel.numbers.fp8 import widen_e4m3, widen_e5m2

    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(
        widen_e4m3(every), np.array([ct.e4m3(c) for c in range(256)], np.float32), strict=True
    )
    np.testing.assert_array_equal(
        widen_e5m2(every), np.array([ct.e5m2(c) for c in range(256)], np.float32), strict=True
    )
    assert np.nanmax(widen_e4m3(every)) == 448 and np.isnan(widen_e4m3(every)).sum() == 2


@pytest.mark.parametrize(("dtype", "widen"), [("F8_E4M3", ct.e4m3), ("F8_E5M2", ct.e5m2)])
def test_8_bit_floats(tmp_path: Path, dtype: str, widen: Any) -> None:
    raw = np.random.default_rng(5).integers(0, 120, (6, 20)).astype(np.uint8)
    scale = ct.bf16(np.full((6, 1), 0.5, np.float32))
    tensors = {M + ".weight": ct.Typed(raw, dtype), M + ".weight_scale": scale, M + ".input_scale": np.ones(1, "f4")}
    weight = opened(tmp_path, tensors, FP8, format="float-quantized").weight(NAME)
    check(weight, np.array([[widen(code) * 0.5 for code in row] for row in raw], np.float32))


def test_groups_in_the_order_of_g_idx(tmp_path: Path) -> None:
    q, scale = codes((4, 20), 4), scales((4, 3))
    order = np.random.default_rng(7).permutation(np.arange(20) // 8).astype(np.int32)
    tensors = {
        M + ".weight_packed": ct.words_of(q, 4, stream=False),
        M + ".weight_shape": np.array([4, 20]),
        M + ".weight_scale": scale,
        M + ".weight_g_idx": order,
    }
    for actorder in ("group", "dynamic", True):
        found = opened(tmp_path, tensors, {**INT4, "actorder": actorder}, format="pack-quantized").weight(NAME)
        check(found, ct.decode(q, scale, None, "group", 8, order=order))
    unset = {**tensors, M + ".weight_g_idx": np.full(20, -1, np.int32)}
    check(opened(tmp_path, unset, {**INT4, "actorder": "group"}).weight(NAME), ct.decode(q, scale, None, "group", 8))
    del unset[M + ".weight_g_idx"]
    for actorder in ("weight", "static", None, False):
        check(
            opened(tmp_path, unset, {**INT4, "actorder": actorder}).weight(NAME), ct.decode(q, scale, None, "group", 8)
        )
    with pytest.raises(MissingTensorsError, match="weight_g_idx"):
        opened(tmp_path, unset, {**INT4, "actorder": "group"})


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("stream", [False, True])
def test_packed_zero_points(tmp_path: Path, bits: int, stream: bool) -> None:
    q, scale, zero = codes((37, 20), bits), scales((37, 3)), codes((37, 3), bits, 4)
    tensors = {
        M + ".weight_packed": ct.words_of(q, bits, stream),
        M + ".weight_shape": np.array([37, 20]),
        M + ".weight_scale": scale,
        M + ".weight_zero_point": np.ascontiguousarray(ct.words_of(zero.T, bits, stream).T),
    }
    args = {**INT4, "num_bits": bits, "symmetric": False}
    expected = ct.decode(q, scale, zero, "group", 8)
    version = "0.18.0" if stream else "0.17.1"
    check(opened(tmp_path / "packed", tensors, args, version=version).weight(NAME), expected)
    tensors[M + ".weight_zero_point"] = zero  # before 0.9.4
    check(opened(tmp_path / "plain", tensors, args, version=version).weight(NAME), expected)


def test_presets(tmp_path: Path) -> None:
    q, scale = codes(low=-127), scales((6, 1))
    config = {"INT8": ["Linear"]}
    check(
        opened(tmp_path, {M + ".weight": q, M + ".weight_scale": scale}, None, config_groups=config).weight(NAME),
        ct.decode(q, scale, None, "channel"),
    )
    q, scale = codes((4, 300), 4), scales((4, 3))
    zero = codes((4, 3), 4, 3)
    tensors = {
        M + ".weight_packed": ct.words_of(q, 4, stream=False),
        M + ".weight_shape": np.array([4, 300]),
        M + ".weight_scale": scale,
        M + ".weight_zero_point": zero,
    }
    check(
        opened(tmp_path, tensors, None, config_groups={"W4A16_ASYM": ["Linear"]}).weight(NAME),
        ct.decode(q, scale, zero, "group", 128),
    )


def test_what_is_not_used_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors = {
        M + ".weight": codes(low=-127),
        M + ".weight_scale": scales((6, 1)),
        M + ".input_scale": np.array([0.5], np.float32),
        M + ".input_zero_point": np.array([3], np.int8),
        "bert.encoder.layer.0.attention.self.k_scale": np.ones(1, np.float32),
        "bert.encoder.layer.0.attention.self.v_scale": np.ones((2, 1, 1), np.float32),
        "bert.pooler.dense.weight": np.ones((6, 6), np.float32),
        "bert.pooler.dense.weight_scale": scales((6, 1)),
    }
    with caplog.at_level("INFO", "aerogel"):
        checkpoint = opened(tmp_path, tensors)
    assert checkpoint.names() == [NAME, "pooler.dense.weight"]
    assert checkpoint.static_input(NAME) == StaticInput(0.5, 3.0)
    assert checkpoint.static_input("pooler.dense.weight") is None
    np.testing.assert_array_equal(checkpoint.array("pooler.dense.weight"), np.ones((6, 6), np.float32))
    for text in ("KV cache", "static scales of activations", "bert.pooler.dense", "1 matrices stay integers"):
        assert text in caplog.text, text
    with pytest.raises(MissingTensorsError, match="nothing"):
        checkpoint.static_input("nothing")
    tensors[M + ".input_scale"] = np.array([0.5, 0.5], np.float32)
    with pytest.raises(CheckpointError, match="input_scale: expected one finite number, got 2"):
        opened(tmp_path, tensors).static_input(NAME)


INPUTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "tensor", "dynamic": False}


@pytest.mark.parametrize(
    ("changed", "zero", "limit"),
    [
        ({}, 0, 63.5),
        ({"symmetric": False}, 3, None),
        ({}, 3, None),
        ({"type": "float"}, 0, None),
        ({"num_bits": 4}, 0, None),
        ({"dynamic": True}, 0, None),
    ],
)
def test_static_scales_of_symmetric_inputs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changed: dict[str, Any], zero: int, limit: float | None
) -> None:
    groups = {"g": {"targets": ["Linear"], "weights": INT8, "input_activations": {**INPUTS, **changed}}}
    tensors = {
        M + ".weight": codes(low=-127),
        M + ".weight_scale": scales((6, 1)),
        M + ".input_scale": np.array([0.5], np.float32),
        M + ".input_zero_point": np.array([zero], np.int8),
        "bert.pooler.dense.weight": np.ones((6, 6), np.float32),
    }
    with caplog.at_level("INFO", "aerogel"):
        checkpoint = opened(tmp_path, tensors, None, config_groups=groups)
    assert checkpoint.input_limit(NAME) == limit
    assert checkpoint.input_limit("pooler.dense.weight") is None
    assert ("static scales of activations" in caplog.text) == (changed != {})
    tensors[M + ".input_scale"] = np.array([-0.5], np.float32)
    if limit is not None:
        with pytest.raises(DataError, match="input_scale: expected a positive number"):
            opened(tmp_path, tensors, None, config_groups=groups).input_limit(NAME)


def test_shards_lone_file_and_subfolder(tmp_path: Path) -> None:
    import json

    q, scale = codes(low=-127), scales((6, 1))
    config = {"model_type": "bert", "compression_config": ct.compression(INT8)}
    folder = ct.write(tmp_path / "0_Transformer", config, {M + ".weight": q, M + ".weight_scale": scale})
    modules = [{"type": "sentence_transformers.models.Transformer", "path": "0_Transformer"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    for path in (folder, folder / "model.safetensors", tmp_path):
        checkpoint = open_checkpoint(path)
        assert checkpoint.kind == "compressed-tensors" and "compression_config" not in checkpoint.config
        check(checkpoint.weight(NAME), ct.decode(q, scale, None, "channel"))
    (folder / "model.safetensors").unlink()
    parts = {"a.safetensors": {M + ".weight": q}, "b.safetensors": {M + ".weight_scale": scale}}
    for file, tensors in parts.items():
        (folder / file).write_bytes(ct.safetensors(tensors))
    index = {name: file for file, tensors in parts.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    check(open_checkpoint(folder).weight(NAME), ct.decode(q, scale, None, "channel"))


def changed(**changes: Any) -> dict[str, Any]:
    """A packed int4 matrix [6, 20] in three groups with zero points, with parts replaced; None removes one."""
    tensors = {
        "weight_packed": ct.words_of(codes((6, 20), 4), 4, stream=True),
        "weight_shape": np.array([6, 20]),
        "weight_scale": scales((6, 3)),
        "weight_zero_point": codes((6, 3), 4, 3),
    }
    tensors.update(changes)
    return {f"{M}.{part}": array for part, array in tensors.items() if array is not None}


ASYM = {**INT4, "symmetric": False}
SCALE = {M + ".weight_scale": scales((6, 1))}
NANS = ct.Typed(np.full((6, 20), 127, np.uint8), "F8_E4M3")
PADDED = ct.words_of(codes((6, 20), 4), 4, stream=True)
PADDED[2, 2] |= 1 << 30


@pytest.mark.parametrize(
    ("tensors", "weights", "error", "message"),
    [
        (changed(weight_scale=None), ASYM, MissingTensorsError, r"output\.dense: weight_scale"),
        (changed(weight_zero_point=None), ASYM, MissingTensorsError, "weight_zero_point"),
        (changed(weight_shape=None), ASYM, MissingTensorsError, "weight_shape"),
        (changed(weight_packed=PADDED[:, :-1]), ASYM, ShapeError, r"20 numbers of 4 bits: expected 3 words a row, got 2"),
        (changed(weight_packed=PADDED), ASYM, DataError, "expected zeros where no number is, got bits set in word 2"),
        (changed(weight_packed=PADDED[:-1]), ASYM, ShapeError, r"weight_shape is \[6, 20\], got words \[5, 3\]"),
        (changed(weight_packed=PADDED.astype(np.int64)), ASYM, CheckpointError, r"expected I32 \[rows, words\], got I64"),
        (changed(weight_shape=np.array([6, 2**40])), ASYM, ShapeError, "weight_shape is"),
        (changed(weight_shape=np.array([6, -20])), ASYM, ShapeError, "weight_shape is"),
        (changed(weight_shape=np.array([6, 0])), ASYM, ShapeError, "expected a matrix"),
        (changed(weight_shape=np.array([6, 20, 1])), ASYM, CheckpointError, r"expected I64 \[2\], got I64 \[3\]"),
        (changed(weight_scale=scales((6, 2))), ASYM, ShapeError, r"scale for each group.* \[6, 3\].*\[6, 2\]"),
        (changed(weight_scale=codes((6, 3))), ASYM, ShapeError, "got I8"),
        (changed(weight_scale=np.full((6, 3), np.nan, "f4")), ASYM, DataError, "scale: expected finite values, got 18"),
        (changed(weight_zero_point=codes((6, 2))), ASYM, ShapeError, r"expected I8 \[6, 3\], got I8 \[6, 2\]"),
        (changed(weight_zero_point=np.zeros((3, 3), "i4")), ASYM, ShapeError, "6 numbers of 4 bits: expected 1 words"),
        (changed(weight_zero_point=np.zeros((1, 2), "i4")), ASYM, ShapeError, r"zero points: expected I32 \[words, 3\]"),
        (changed(weight_g_idx=np.zeros(19, "i4")), ASYM, ShapeError, r"expected I32 \[20\], got I32 \[19\]"),
        (changed(weight_g_idx=np.full(20, 3, "i4")), ASYM, DataError, "column 0: expected a group from 0 to 2"),
        (changed(weight_g_idx=np.full(20, -2, "i4")), ASYM, DataError, "got -2"),
        (changed(weight=codes()), ASYM, CheckpointError, "expected weight or weight_packed, got weight and weight_packed"),
        (changed(weight_packed=None), ASYM, CheckpointError, "expected weight or weight_packed, got weight_scale"),
        (changed(), {**FP8, "strategy": "tensor"}, UnsupportedModelError, "packed floats"),
        (changed(), None, CheckpointError, "stored quantized, but no group targets it"),
        ({M + ".weight": codes()}, INT8, MissingTensorsError, "weight_scale"),
        ({M + ".weight": codes((2, 3, 4)), M + ".weight_scale": scales((2, 1))}, INT8, ShapeError, "expected a matrix"),
        ({M + ".weight": codes(), **SCALE}, FP8, CheckpointError, "expected F8_E4M3 or F8_E5M2"),
        ({M + ".weight": codes(), **SCALE}, {**INT8, "num_bits": 4}, DataError, "4 bits: expected -8 to 7"),
        ({M + ".weight": np.ones((6, 20), "f8")}, INT8, UnsupportedModelError, "expected one of F32, F16, BF16, got F64"),
        ({M + ".weight": NANS, **SCALE}, FP8, DataError, "got 120 of 120"),
        ({M + ".scale_packed": scales((6, 1)), M + ".weight_packed": PADDED}, INT8, UnsupportedModelError, "marlin-24"),
        ({M + ".weight_global_scale": scales((1,)), M + ".weight_packed": PADDED}, INT8, UnsupportedModelError, "nvfp4"),
    ],
)  # fmt: skip
def test_broken_files_are_named_errors(
    tmp_path: Path, tensors: dict[str, Any], weights: Any, error: type[AerogelError], message: str
) -> None:
    with pytest.raises(error, match=message):
        opened(tmp_path, tensors, weights, version="0.9.3").weight(NAME)


def test_an_ignored_module_must_not_be_quantized(tmp_path: Path) -> None:
    tensors = {M + ".weight": codes(low=-127), M + ".weight_scale": scales((6, 1))}
    with pytest.raises(CheckpointError, match="no group targets it, or ignore names it"):
        opened(tmp_path, tensors, ignore=["re:.*output"])


def test_missing_names(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, {"bert.pooler.dense.bias": np.ones(6, np.float32)})
    for read in (checkpoint.array, checkpoint.weight, checkpoint.shape):
        with pytest.raises(MissingTensorsError, match="nothing"):
            read("nothing")
    with pytest.raises(ShapeError, match="expected a matrix"):
        checkpoint.weight("pooler.dense.bias")


def test_log_is_quiet_for_plain_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aerogel"):
        opened(tmp_path, {"bert.pooler.dense.weight": np.ones((6, 6), np.float32)}, format="dense")
    assert caplog.text == ""

"""Packed models of version 2: int8 with a scale each group, and indices of levels. Written here byte by byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel
from aerogel.checkpoint import open_checkpoint
from aerogel.checkpoint.packed.writer import add_weight
from aerogel.checkpoint.safetensors_writer import SafetensorsWriter
from aerogel.errors import AerogelError
from aerogel.quantize import quantize
from aerogel.quantize.stored import to_weight

from .tiny_files import HIDDEN, PACKED, bert_tensors, tensor_bytes, write_bert

QUERY = "encoder.layer.0.attention.self.query.weight"
KEY = "encoder.layer.0.attention.self.key.weight"
VALUE = "encoder.layer.0.attention.self.value.weight"
UP = "encoder.layer.0.intermediate.dense.weight"
WORDS = "embeddings.word_embeddings.weight"

LEVELS = np.array([-100, -50, -3, 0, 7, 90], np.int8)


def stream(indices: list[int], bits: int) -> list[int]:
    """One number behind the other, least significant bit first."""
    whole = sum(index << (i * bits) for i, index in enumerate(indices))
    return list(whole.to_bytes(-(-len(indices) * bits // 8), "little"))


def arrays() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The tensors of a tiny BERT, five of its matrices in the new forms, and what these stand for."""
    rng = np.random.default_rng(0)
    tensors, dense = bert_tensors(), {}
    scale = (rng.random(HIDDEN) + 0.1).astype(np.float32)

    # 4-bit indices, dense, with a multiplier and a zero point for its one group
    index = rng.integers(0, 16, (HIDDEN, HIDDEN))
    multiplier = rng.integers(1, 9, (HIDDEN, 1)).astype(np.uint8)
    zero = rng.integers(0, 16, (HIDDEN, 1)).astype(np.int8)
    del tensors[QUERY]
    tensors[QUERY + "_packed"] = np.array([stream(row.tolist(), 4) for row in index], np.uint8)
    tensors[QUERY + "_levels"] = np.arange(16, dtype=np.int8)
    tensors[QUERY + "_multiplier"], tensors[QUERY + "_zero"] = multiplier, zero
    tensors[QUERY + "_group"] = np.array([32], np.int64)
    tensors[QUERY + "_scale"] = scale
    dense[QUERY] = (index - zero) * multiplier * scale[:, None]

    # a codebook of 6 in 3 bits, behind a mask
    stored = rng.random((HIDDEN, HIDDEN)) < 0.4
    stored[2] = False
    stored[5, 1] = True
    index = rng.integers(0, 6, int(stored.sum()))
    del tensors[KEY]
    tensors[KEY + "_packed"] = np.array(stream(index.tolist(), 3), np.uint8)
    tensors[KEY + "_bitmask"] = np.packbits(stored, axis=1, bitorder="little")
    tensors[KEY + "_levels"], tensors[KEY + "_scale"] = LEVELS, scale
    dense[KEY] = np.zeros((HIDDEN, HIDDEN))
    dense[KEY][stored] = LEVELS[index]
    dense[KEY] *= scale[:, None]

    # the same codebook, dense, one byte each
    index = rng.integers(0, 6, (HIDDEN, HIDDEN))
    del tensors[VALUE]
    tensors[VALUE + "_index"] = index.astype(np.uint8)
    tensors[VALUE + "_levels"], tensors[VALUE + "_scale"] = LEVELS, scale
    dense[VALUE] = LEVELS[index] * scale[:, None]

    # int8 with a scale each group of 8 (of which a row has one)
    codes = rng.integers(-127, 128, tensors[UP].shape).astype(np.int8)
    tensors[UP] = codes
    tensors[UP + "_scale"] = (rng.random((len(codes), 1)) + 0.1).astype(np.float32)
    tensors[UP + "_group"] = np.array([8], np.int64)
    dense[UP] = codes * tensors[UP + "_scale"]

    # an embedding, one byte each
    rows = len(tensors[WORDS])
    del tensors[WORDS]
    index = rng.integers(0, 6, (rows, HIDDEN))
    tensors[WORDS + "_index"] = index.astype(np.uint8)
    tensors[WORDS + "_levels"], tensors[WORDS + "_scale"] = LEVELS, np.full(rows, 0.01, np.float32)
    dense[WORDS] = LEVELS[index] * np.float32(0.01)
    return tensors, {name: array.astype(np.float32) for name, array in dense.items()}


def write(folder: Path, tensors: dict[str, np.ndarray], version: int = 2) -> Path:
    write_bert(folder, {}, {"quantization_config": {**PACKED, "format_version": version}})
    (folder / "model.safetensors").write_bytes(tensor_bytes(tensors))
    return folder


def test_offsets_stand_in_place_of_zero_points(tmp_path: Path) -> None:
    tensors, dense = arrays()
    zero, multiplier = tensors.pop(QUERY + "_zero"), tensors[QUERY + "_multiplier"].astype(int)
    tensors[QUERY + "_offset"] = (1 - zero * multiplier).astype(np.int8)
    folder = write(tmp_path / "m", tensors)
    weight = open_checkpoint(folder).weight(QUERY)
    expected = dense[QUERY] + weight.scale[:, None]
    np.testing.assert_allclose(weight.dense(), expected, rtol=1e-6)
    np.testing.assert_array_equal(weight.rows(slice(2, 5)).dense(), weight.dense()[2:5])
    order = np.arange(HIDDEN)[::-1]
    np.testing.assert_array_equal(weight.reordered(0, order).dense(), weight.dense()[::-1])
    aerogel.load(folder)
    for broken, message in ((127, "got one of magnitude"), (0, "_offset: expected I8 .8, 1., got I8 .4, 1.")):
        changed = np.full((HIDDEN, 1), 127, np.int8) if broken else tensors[QUERY + "_offset"][:4]
        with pytest.raises(AerogelError, match=message):
            aerogel.load(write(tmp_path / str(broken), {**tensors, QUERY + "_offset": changed}))


def test_what_they_stand_for(tmp_path: Path) -> None:
    tensors, dense = arrays()
    checkpoint = open_checkpoint(write(tmp_path / "m", tensors))
    assert checkpoint.names() == sorted(bert_tensors())
    for name, expected in dense.items():
        weight = checkpoint.weight(name)
        np.testing.assert_allclose(weight.dense(), expected, rtol=1e-6)
        np.testing.assert_array_equal(checkpoint.array(name), weight.dense(), strict=True)
        assert checkpoint.shape(name) == weight.shape == expected.shape
        assert weight.sparsity == pytest.approx(1 - np.count_nonzero(expected) / expected.size)
        assert weight.values.flags.owndata is False
    assert [checkpoint.weight(name).numbers for name in (QUERY, KEY, VALUE, UP)] == ["int8", "int8", "int8", "int8g"]
    assert [checkpoint.weight(name).bits for name in (QUERY, KEY, VALUE, UP)] == [4, 3, 8, 0]


def test_the_same_as_plain_codes(tmp_path: Path) -> None:
    """A model of indices gives, bit for bit, what the codes that they stand for give."""
    tensors, dense = arrays()
    plain = bert_tensors()
    checkpoint = open_checkpoint(write(tmp_path / "a", tensors))
    for name in dense:
        weight = checkpoint.weight(name)
        if name != UP:
            plain[name], plain[name + "_scale"] = weight.codes(), weight.scale
        else:  # codes already, with a scale a group
            del plain[name]
            plain |= {key: array for key, array in tensors.items() if key.startswith(UP)}
    a = aerogel.load(tmp_path / "a")
    b = aerogel.load(write(tmp_path / "b", plain))
    ids, offsets = [5, 6, 7, 8, 5, 6, 7, 9, 10], [0, 3, 9]
    np.testing.assert_array_equal(a.forward(ids, offsets), b.forward(ids, offsets))
    formats = {step["name"]: step["forms"][0]["format"] for step in a.describe() if "forms" in step}
    assert formats["layers.0.attention.qkv"] == "dense_q8"


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("k", [1, 7, 8, 20, 64, 100])
@pytest.mark.parametrize(
    "name",
    ["int8", "int8:g32", "int4:g32", "int4:g32:asym", "codebook:4", "codebook:16", "codebook:40", "codebook:256"],
)
def test_written_and_read(tmp_path: Path, name: str, k: int, sparse: bool) -> None:
    rng = np.random.default_rng(k)
    w = (rng.standard_normal((5, k)) * (rng.random((5, k)) < 0.6)).astype(np.float32)
    weight = to_weight(quantize(name, w), sparse)
    folder = write_bert(tmp_path / "m", {}, {"quantization_config": {**PACKED, "format_version": 2}})
    writer = SafetensorsWriter(folder / "model.safetensors")
    size = add_weight(writer, "encoder.x.weight", weight)
    writer.close({"format": "aerogel"})
    read = open_checkpoint(folder).weight("encoder.x.weight")
    assert read.shape == (5, k) and read.numbers == weight.numbers and read.bits == weight.bits
    np.testing.assert_array_equal(read.dense(), weight.dense(), strict=True)
    assert size >= read.nbytes == weight.nbytes


def test_bytes_of_large_matrices(tmp_path: Path) -> None:
    """The plain form is within 5 % of its mask and codes; scales of groups come on top."""
    w = np.random.default_rng(0).standard_normal((256, 1024)).astype(np.float32)
    sparse = np.where(np.abs(w) > 1.2816, w, 0).astype(np.float32)  # 80 %
    for name, bits, of_groups in (
        ("int8", 8, 0),
        ("int4:g64", 4, 8 / 64),
        ("int4:g64:asym", 4, 16 / 64),
        ("int8:g64", 8, 32 / 64),
        ("codebook:16", 4, 0),
        ("codebook:64", 6, 0),
    ):
        for matrix in (w, sparse):
            weight = to_weight(quantize(name, matrix))
            mask_and_codes = bits if matrix is w else 1 + bits * (1 - weight.sparsity)
            assert 8 * weight.nbytes / w.size <= 1.05 * mask_and_codes + of_groups, name


def put(place: Any, value: int) -> Any:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[place] = value
        return array

    return change


def fill(value: int) -> Any:
    return put(..., value)


@pytest.mark.parametrize(
    ("tensor", "change", "message"),
    [
        # shapes and types, when the file is opened
        (QUERY + "_levels", None, "a tensor is missing: " + QUERY + "_levels"),
        (QUERY + "_levels", lambda a: a.astype(np.uint8), r"_levels: expected I8 \[1 to 128\], got U8 \[16\]"),
        (QUERY + "_levels", lambda a: a[None], r"_levels: expected I8 \[1 to 128\], got I8 \[1, 16\]"),
        (QUERY + "_levels", lambda a: a[:0], r"_levels: expected I8 \[1 to 128\], got I8 \[0\]"),
        (QUERY + "_levels", lambda _: np.zeros(129, np.int8), r"_levels: expected I8 \[1 to 128\], got I8 \[129\]"),
        (VALUE + "_levels", lambda _: np.zeros(257, np.int8), r"_levels: expected I8 \[1 to 256\], got I8 \[257\]"),
        (QUERY + "_packed", lambda a: a.astype(np.int8), "_packed: expected U8, got I8"),
        (QUERY + "_packed", lambda a: a.ravel(), r"_packed: expected a matrix of indices, got \[32\]"),
        (QUERY + "_packed", lambda a: a[:, :-1], r"expected \[8, 8\], got \[8, 6\]"),
        (QUERY + "_levels", lambda a: a[:8], r"expected \[8, 8\], got \[8, 10\]"),
        (
            QUERY + "_shape",
            lambda _: np.array([8, 6]),
            r"_shape: expected I64 \[N, K\] that fits indices of 4 bits \[8, 4\]",
        ),
        (QUERY + "_shape", lambda _: np.array([8, -8]), r"_shape: expected I64 \[N, K\] that fits indices of 4 bits"),
        (QUERY + "_shape", lambda _: np.array([8, 7]), r"expected \[8, 8\], got \[8, 7\]"),
        (QUERY + "_scale", None, "one with I8 values and none with others, got U8"),
        (QUERY + "_scale", lambda a: a[:, None], r"_scale: expected F32 \[8\], got F32 \[8, 1\]"),
        (QUERY + "_scale", lambda a: a.astype(np.float64), r"_scale: expected F32 \[8\], got F64 \[8\]"),
        (QUERY + "_multiplier", lambda a: a.astype(np.int8), r"_multiplier: expected U8 \[8, 1\], got I8 \[8, 1\]"),
        (QUERY + "_multiplier", lambda a: a.ravel(), r"_multiplier: expected U8 \[8, 1\], got U8 \[8\]"),
        (QUERY + "_zero", lambda a: a.astype(np.uint8), r"_zero: expected I8 \[8, 1\], got U8 \[8, 1\]"),
        (QUERY + "_zero", lambda a: a[:4], r"_zero: expected I8 \[8, 1\], got I8 \[4, 1\]"),
        (QUERY + "_group", put(0, 12), r"_group: expected I64 \[1\], a positive multiple of 8, got 12"),
        (QUERY + "_group", put(0, 0), "a positive multiple of 8, got 0"),
        (QUERY + "_group", put(0, -8), "a positive multiple of 8, got -8"),
        (QUERY + "_group", lambda a: a.astype(np.float32), r"a positive multiple of 8, got F32 \[1\]"),
        (QUERY + "_group", lambda a: a[0], r"a positive multiple of 8, got I64 \[\]"),
        (QUERY, lambda _: np.zeros((8, 8), np.float32), "is stored twice, as .*weight and as .*_packed"),
        (QUERY + "_index", lambda _: np.zeros((8, 8), np.uint8), "is stored twice, as .*_index and as .*_packed"),
        (KEY + "_values", lambda _: np.zeros(3, np.int8), "is stored twice, as .*_values and as .*_packed"),
        (KEY, lambda _: np.zeros((8, 8), np.float32), "is stored twice, dense and behind a mask"),
        (KEY + "_packed", lambda a: a[None], r"_packed: expected a vector, got \[1, "),
        (KEY + "_zero", lambda _: np.zeros((8, 2), np.int8), r"_zero: expected I8 \[8, 1\], got I8 \[8, 2\]"),
        (UP + "_group", None, r"_scale: expected F32 \[16\], got F32 \[16, 1\]"),
        (UP + "_scale", lambda a: a.ravel(), r"_scale: expected F32 \[16, 1\], got F32 \[16\]"),
        (UP + "_zero", lambda _: np.zeros((16, 1), np.int8), "parts without their parameter: .*_zero"),
        (UP + "_multiplier", lambda _: np.ones((16, 1), np.uint8), "parts without their parameter: .*_multiplier"),
        (UP + "_levels", lambda _: LEVELS, "parts without their parameter: .*_levels"),
        ("embeddings.LayerNorm.weight_group", lambda _: np.array([8]), "parts without their parameter: .*weight_group"),
        ("lonely_levels", lambda _: LEVELS, "parts without their parameter: lonely_levels"),
        # what needs a look at the data
        (QUERY + "_levels", lambda a: a[:15], "expected indices below 15, the number of levels, got 15"),
        (VALUE + "_index", put((7, 7), 6), "expected indices below 6, the number of levels, got 6"),
        (VALUE + "_index", fill(255), "expected indices below 6, the number of levels, got 255"),
        (WORDS + "_index", put((0, 0), 9), "expected indices below 6, the number of levels, got 9"),
        (KEY + "_packed", fill(255), "expected indices below 6, the number of levels, got 7"),
        (KEY + "_packed", lambda a: a[:-1], "expected as many indices as the mask has bits, .* of 3 bits, got"),
        (KEY + "_packed", lambda a: np.append(a, a[:1]), "expected as many indices as the mask has bits"),
        (KEY + "_packed", lambda a: put(-1, a[-1] | 0x80)(a), "expected no bits behind the last index"),
        (KEY + "_bitmask", fill(0), "expected as many indices as the mask has bits, 0 of 3 bits"),
        (KEY + "_levels", put(0, -128), "expected indices of codes in .*, got one of magnitude 128"),
        (QUERY + "_multiplier", fill(255), r"expected indices of codes in \[-127, 127\], got one of magnitude"),
        (QUERY + "_zero", fill(-128), r"expected indices of codes in \[-127, 127\], got one of magnitude"),
        (QUERY + "_scale", put(1, np.nan), "scale: expected finite values, got 1 of 8"),
        (QUERY + "_scale", put(1, -1), "scale of row 1 is -1"),
        (UP + "_scale", put((3, 0), np.inf), "scale: expected finite values, got 1 of 16"),
        (UP, put((0, 0), -128), r"expected codes in \[-127, 127\], got -128"),
    ],
)
def test_broken_files_are_named_errors(tmp_path: Path, tensor: str, change: Any, message: str) -> None:
    tensors, _ = arrays()
    if change is None:
        del tensors[tensor]
    else:
        tensors[tensor] = change(tensors.get(tensor))
    with pytest.raises(AerogelError, match=message):
        aerogel.load(write(tmp_path / "m", tensors))


def test_any_byte_changed_is_an_error_or_a_model(tmp_path: Path) -> None:
    """Whatever the small tensors hold, nothing but a named error may come out of it."""
    rng = np.random.default_rng(5)
    whole, _ = arrays()
    small = [
        n for n in whole if n.endswith(("_packed", "_index", "_levels", "_multiplier", "_zero", "_group", "_bitmask"))
    ]
    refused = 0
    for round in range(150):
        tensors = dict(whole)
        name = small[round % len(small)]
        raw = bytearray(tensors[name].tobytes())
        raw[rng.integers(len(raw))] = rng.integers(256)
        tensors[name] = np.frombuffer(bytes(raw), tensors[name].dtype).reshape(tensors[name].shape)
        checkpoint = None
        try:
            checkpoint = open_checkpoint(write(tmp_path / "m", tensors))
            dense = [checkpoint.weight(n).dense() for n in (QUERY, KEY, VALUE, WORDS)]
        except AerogelError:
            refused += 1
            continue
        assert all(np.isfinite(array).all() for array in dense)
        aerogel.load(tmp_path / "m")
    assert 20 < refused < 130


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AerogelError, match="format_version: expected at most 4, got 5"):
        open_checkpoint(write(tmp_path / "m", arrays()[0], version=5))

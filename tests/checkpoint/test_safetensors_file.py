"""One test per way for a safetensors file to be broken, and a comparison with the format's own implementation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from aerogel.checkpoint.safetensors_file import SafetensorsFile
from aerogel.errors import AerogelError, CheckpointError, UnsupportedModelError

from .tiny_files import tensor_bytes, with_header

ARRAYS = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "h": np.arange(4, dtype=np.float16),
    "i": np.array([-127, 127, 0, 1], np.int8),
}
ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_reads_what_the_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    arrays = {**ARRAYS, "empty": np.zeros((0, 3), np.float32), "scalar": np.array(2.5, np.float32)}
    safetensors.numpy.save_file(arrays, path, metadata={"format": "np"})
    file = SafetensorsFile(path)
    assert file.metadata == {"format": "np"}
    assert set(file.entries) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(file.raw(name), array, strict=True)


def test_what_was_read_does_not_depend_on_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "m", tensor_bytes(ARRAYS))
    file = SafetensorsFile(path)
    array = file.float32("w")
    path.write_bytes(bytes(path.stat().st_size))  # in place
    np.testing.assert_array_equal(array, ARRAYS["w"])
    path.unlink()
    del file
    np.testing.assert_array_equal(array, ARRAYS["w"])


def test_a_file_that_is_cut_short_meanwhile_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m"
    safetensors.numpy.save_file({"a": np.arange(300000, dtype=np.float32), "b": ARRAYS["w"]}, path)
    file = SafetensorsFile(path)
    path.write_bytes(path.read_bytes()[:200000])
    with pytest.raises(CheckpointError, match=r"m: truncated while it was read: expected 1200000 bytes at \d+, got 19"):
        file.raw("a")
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="truncated while it was read: expected 24 bytes"):
        file.raw("b")


def test_a_file_that_is_replaced_meanwhile_is_read_on(tmp_path: Path) -> None:
    path = write(tmp_path / "m", tensor_bytes(ARRAYS))
    file = SafetensorsFile(path)
    write(tmp_path / "new", b"something else").replace(path)
    np.testing.assert_array_equal(file.raw("w"), ARRAYS["w"])


def test_only_ordinary_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(CheckpointError, match="cannot be read: it is not an ordinary file"):
            SafetensorsFile(path)


def test_half_floats(tmp_path: Path) -> None:
    values = np.array([0.0, -0.0, 1.0, -2.5, 3.0e38, 1e-40, np.inf], np.float32)
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)
    path = write(tmp_path / "m", tensor_bytes({"b": upper.view("f2"), "h": values[:4].astype(np.float16)}, bf16=("b",)))
    file = SafetensorsFile(path)
    expected = (upper.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(file.float32("b"), expected, strict=True)
    np.testing.assert_array_equal(file.float32("h"), values[:4], strict=True)


def test_unaligned_tensors_are_copied(tmp_path: Path) -> None:
    arrays = {"odd": np.array([1], np.int8), "w": np.array([1.5, 2.5], np.float32)}
    file = SafetensorsFile(write(tmp_path / "m", tensor_bytes(arrays)))
    assert file.raw("w").flags.aligned
    np.testing.assert_array_equal(file.raw("w"), arrays["w"])


@pytest.mark.parametrize("dtype", ["I64", "U32", "I8", "BOOL", "F8_E4M3", "F4"])
def test_a_type_that_is_no_weight_is_named(tmp_path: Path, dtype: str) -> None:
    size = {"I64": 8, "U32": 4, "F4": 1}.get(dtype, 1)
    path = write(
        tmp_path / "m", with_header({"x": {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}}, b"\0" * size)
    )
    with pytest.raises(UnsupportedModelError, match=f"x: .*{dtype}"):
        SafetensorsFile(path).float32("x")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"not json", "expected JSON"),
        (b"\xff\xfe{}", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        ([], "expected a JSON object, got list"),
        (b'{"a": {"dtype":"U8","shape":[0],"data_offsets":[0,0]}, "a": 1}', "'a' occurs twice"),
        (b'{"a": {"dtype":"U8","dtype":"I8","shape":[0],"data_offsets":[0,0]}}', "'dtype' occurs twice"),
        ({"__metadata__": {"a": 1}}, "__metadata__"),
        ({"__metadata__": "x"}, "__metadata__"),
        ({"x": 3}, "x: expected dtype, shape and data_offsets, got int"),
        ({"x": {"dtype": "F32"}}, "x: expected dtype, shape and data_offsets"),
        ({"x": {**ENTRY, "more": 1}}, "x: expected dtype, shape and data_offsets"),
        ({"x": {**ENTRY, "dtype": 7}}, "x: dtype"),
        ({"x": {**ENTRY, "shape": 2}}, "x: shape"),
        ({"x": {**ENTRY, "shape": [2.0]}}, "x: shape"),
        ({"x": {**ENTRY, "shape": [True, 2]}}, "x: shape"),
        ({"x": {**ENTRY, "shape": [-2]}}, "x: shape"),
        ({"x": {**ENTRY, "shape": [2**63]}}, "x: shape"),
        ({"x": {**ENTRY, "shape": [2**62, 4, 2**62]}}, "x: shape: expected at most"),
        # empty, so of no bytes, and yet no array
        ({"x": {**ENTRY, "shape": [0, 2**62], "data_offsets": [0, 0]}}, "x: shape: expected at most"),
        ({"x": {**ENTRY, "shape": [2**40, 2**40, 0], "data_offsets": [0, 0]}}, "x: shape: expected at most"),
        ({"x": {**ENTRY, "shape": [2] + [1] * 40}}, "x: shape: expected at most 32 dimensions"),
        ({"x": {**ENTRY, "shape": [2**31, 2**20]}}, "x: F32 .* takes"),
        ({"x": {**ENTRY, "shape": [3]}}, r"x: F32 \[3\] takes 12 bytes, data_offsets \[0, 8\]"),
        ({"x": {**ENTRY, "data_offsets": [0]}}, "x: data_offsets"),
        ({"x": {**ENTRY, "data_offsets": [8, 0]}}, "x: data_offsets"),
        ({"x": {**ENTRY, "data_offsets": [-8, 0]}}, "x: data_offsets"),
        ({"x": {**ENTRY, "data_offsets": [4, 12]}}, "x: leaves a hole"),
        ({"x": ENTRY, "y": {**ENTRY, "data_offsets": [4, 12]}}, "y: overlaps"),
        ({"x": ENTRY, "y": ENTRY}, "overlaps"),
        ({"x": ENTRY, "y": {**ENTRY, "data_offsets": [8, 16]}}, "truncated: y ends at data byte 16, the file has 8"),
        ({}, "expected 0 data bytes, got 8"),
    ],
)
def test_broken_header(tmp_path: Path, header: Any, message: str) -> None:
    path = write(tmp_path / "m.safetensors", with_header(header, b"\0" * 8))
    with pytest.raises(CheckpointError, match=message) as caught:
        SafetensorsFile(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\1\0\0", "truncated: expected a header length"),
        ((2**63).to_bytes(8, "little") + b"{}", "header length: expected at most"),
        ((100).to_bytes(8, "little") + b"{}", "truncated: expected a header of 100 bytes, 2 follow"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    ],
)
def test_broken_beginning(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        SafetensorsFile(write(tmp_path / "m", data))


def test_no_such_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        SafetensorsFile(tmp_path / "none")
    with pytest.raises(CheckpointError, match="cannot be read"):
        SafetensorsFile(tmp_path)


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    data = tensor_bytes(ARRAYS)
    for length in range(len(data)):
        with pytest.raises(CheckpointError):
            SafetensorsFile(write(tmp_path / "m", data[:length]))


def test_every_changed_byte_of_the_header_is_an_error_or_another_sound_file(tmp_path: Path) -> None:
    data = tensor_bytes(ARRAYS)
    header = 8 + int.from_bytes(data[:8], "little")
    for position in range(header):
        for value in (0, 0x22, 0x30, 0x39, 0x5D, 0xFF, data[position] ^ 1):
            check_like_the_package(tmp_path / "m", data[:position] + bytes([value]) + data[position + 1 :])


NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 7, 8, 12, 16, 24, 2**31, 2**63, 2**64, -1])
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I8", "U8", "I64", "F64", "BOOL", "X"]),
        "shape": st.lists(NUMBERS, max_size=3),
        "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2),
    }
)


@settings(max_examples=300, deadline=None)
@given(header=st.dictionaries(st.sampled_from("abc"), ENTRIES, max_size=3), size=st.sampled_from([0, 1, 4, 8, 16, 24]))
def test_random_headers_like_the_package(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any], size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    check_like_the_package(path, with_header(json.dumps(header).encode(), bytes(size)))


def check_like_the_package(path: Path, data: bytes) -> None:
    """Opening either raises an AerogelError, or the safetensors package opens it too and reads the same."""
    path.write_bytes(data)
    try:
        file = SafetensorsFile(path)
    except AerogelError:
        return
    if any(entry.dtype not in ("F32", "F16", "I8", "U8", "I64", "F64", "BOOL") for entry in file.entries.values()):
        return  # types of which the package knows others than this reader
    expected = safetensors.numpy.load(data)
    assert set(file.entries) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(file.raw(name), array)

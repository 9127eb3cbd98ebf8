"""The GGUF file: every tensor type, every metadata type, and one test per way to be broken."""

from __future__ import annotations

import math
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as ValueType
from hypothesis import given, settings
from hypothesis import strategies as st

from aerogel._core import block_types
from aerogel.checkpoint.gguf.arrays import FileArray
from aerogel.checkpoint.gguf.file import GGUFFile
from aerogel.checkpoint.gguf.types import KNOWN, type_of
from aerogel.errors import AerogelError, CheckpointError, UnsupportedModelError

from ...reference import gguf_blocks as reference
from ..tiny_files import interleave
from . import files

#: In the gguf package's list and in no file of weights: integers, float64, and blocks that only activations have.
UNREAD = ("I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K", "Q1_0")
READ = tuple(kind.name for kind in Type if kind.name not in UNREAD)


def opened(path: Path, data: bytes) -> GGUFFile:
    path.unlink(missing_ok=True)  # some file systems flush a file that is truncated and written again
    path.write_bytes(data)
    return GGUFFile(path)


def of_blocks(path: Path, kind: str, shape: tuple[int, ...], data: bytes, alignment: int = 32) -> GGUFFile:
    metadata = [] if alignment == 32 else [("general.alignment", files.scalar(files.U32, alignment))]
    head = files.raw(metadata, [files.info("a.weight", shape, Type[kind], 0)], alignment=alignment)
    return opened(path, head + data)


# -- tensors


@pytest.mark.parametrize("kind", reference.BLOCKS)
def test_blocks_like_ggml(tmp_path: Path, kind: str) -> None:
    block, size, _, _ = reference.BLOCKS[kind]
    assert gguf.GGML_QUANT_SIZES[Type[kind]] == (block, size)
    shape = (3, 2 * block) if block > 1 else (3, 5)
    data = reference.random_blocks(kind, math.prod(shape) // block, np.random.default_rng(Type[kind]))
    file = of_blocks(tmp_path / "m", kind, shape, data)
    assert file.tensors["a.weight"].shape == shape
    values = file.float32("a.weight")
    assert values.dtype == np.float32 and values.shape == shape
    expected = reference.decode(kind, data).reshape(shape)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("kind", READ)
def test_every_type_keeps_its_rows(tmp_path: Path, kind: str) -> None:
    """Each row decoded alone gives the same, whatever the dimensions around it."""
    block, size = gguf.GGML_QUANT_SIZES[Type[kind]]
    shape = (2, 3, 2 * block)
    rows = np.random.default_rng(1).integers(0, 60, (6, 2 * size), dtype=np.uint8)  # below the codes of NaN
    values = of_blocks(tmp_path / "m", kind, shape, rows.tobytes()).float32("a.weight")
    expected = [gguf.quants.dequantize(row[None], Type[kind]).reshape(-1) for row in rows]
    np.testing.assert_array_equal(values.reshape(6, -1), np.stack(expected))
    assert values.any()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("F32", 0.0),
        ("F16", 1e-3),
        ("BF16", 1e-2),
        ("Q4_0", 0.1),
        ("Q4_1", 0.1),
        ("Q5_0", 0.05),
        ("Q5_1", 0.05),
        ("Q8_0", 0.01),
        ("TQ1_0", 0.9),
        ("TQ2_0", 0.9),
        ("MXFP4", 0.15),
    ],
)
def test_what_the_package_quantizes_comes_back(tmp_path: Path, kind: str, error: float) -> None:
    x = np.random.default_rng(2).standard_normal((4, 512)).astype(np.float32)
    path = files.write(tmp_path / "m.gguf", "llama", {}, {"a.weight": files.quantized(x, Type[kind])})
    values = GGUFFile(path).float32("a.weight")
    assert np.linalg.norm(values - x) <= error * np.linalg.norm(x)


@pytest.mark.parametrize("kind", UNREAD)
def test_a_type_that_is_no_weight_is_named(tmp_path: Path, kind: str) -> None:
    block, size = gguf.GGML_QUANT_SIZES[Type[kind]]
    file = of_blocks(tmp_path / "m", kind, (2, block), bytes(2 * size))
    with pytest.raises(UnsupportedModelError, match=f"a.weight: blocks of type {kind} cannot be decoded"):
        file.float32("a.weight")


@pytest.mark.parametrize("kind", [4, 5, 31, 36, 99, 2**32 - 1])
def test_an_unknown_type_is_named(tmp_path: Path, kind: int) -> None:
    with pytest.raises(UnsupportedModelError, match=f"a.weight: unknown block type {kind}"):
        opened(tmp_path / "m", files.raw((), [files.info("a.weight", (32,), kind, 0)], bytes(256)))


def test_what_was_read_does_not_depend_on_the_file(tmp_path: Path) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = files.write(tmp_path / "m", "llama", {}, {"a.weight": weight})
    file = GGUFFile(path)
    values = file.float32("a.weight")
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))  # in place
    np.testing.assert_array_equal(values, weight, strict=True)
    path.write_bytes(content[:-20])
    with pytest.raises(CheckpointError, match="m: truncated while it was read"):
        file.float32("a.weight")


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("shift", [1, 2, 3])
def test_unaligned_tensors_are_copied(tmp_path: Path, kind: str, shift: int) -> None:
    x = np.arange(64, dtype=np.float32).reshape(2, 32)
    x[:, 0] = 127  # Q8_0 has a scale of 1 then
    blocks = gguf.quants.quantize(x, Type[kind]).tobytes()
    metadata = [("general.alignment", files.scalar(files.U32, 1)), ("pad", files.value(files.STRING, b""))]
    for pad in range(4):  # until the data begins where it is least welcome
        metadata[1] = ("pad", files.value(files.STRING, files.string("x" * pad)))
        head = files.raw(metadata, [files.info("a.weight", x.shape, Type[kind], 0)], alignment=1)
        if len(head) % 4 == shift:
            break
    values = opened(tmp_path / "m", head + blocks).float32("a.weight")
    assert values.flags.aligned
    np.testing.assert_array_equal(values, x, strict=True)


@pytest.mark.parametrize("alignment", [8, 32, 64, 4096])
def test_several_tensors_at_any_alignment(tmp_path: Path, alignment: int) -> None:
    tensors = {f"{i}.weight": np.arange(i + 1, dtype=np.float32) + i for i in range(5)}
    file = GGUFFile(files.write(tmp_path / "m", "llama", {}, tensors, alignment))
    assert set(file.tensors) == set(tensors)
    assert all(tensor.begin % alignment == 0 for tensor in file.tensors.values())
    for name, values in tensors.items():
        np.testing.assert_array_equal(file.float32(name), values, strict=True)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize(("heads", "size"), [(1, 2), (2, 6), (3, 4), (5, 10)])
def test_interleaved_rows(tmp_path: Path, kind: str, heads: int, size: int) -> None:
    x = np.random.default_rng(3).standard_normal((heads * size, 32)).astype(np.float32)
    blocks = gguf.quants.quantize(interleave(x, heads), Type[kind])
    path = files.write(tmp_path / "m", "llama", {}, {"q.weight": (blocks, Type[kind])})
    expected = gguf.quants.dequantize(gguf.quants.quantize(x, Type[kind]), Type[kind])
    np.testing.assert_array_equal(GGUFFile(path).float32("q.weight", heads), expected)


def test_rows_that_heads_do_not_divide(tmp_path: Path) -> None:
    file = GGUFFile(files.write(tmp_path / "m", "llama", {}, {"q.weight": np.zeros((6, 2), np.float32)}))
    with pytest.raises(CheckpointError, match=r"q.weight: expected rows for 2 heads, got \[6, 2\]"):
        file.float32("q.weight", 2)


@pytest.mark.parametrize("shape", [(3,), (3, 5), (2, 3, 5), (2, 1, 3, 5)])
def test_one_to_four_dimensions(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    file = GGUFFile(files.write(tmp_path / "m", "llama", {}, {"a.weight": x}))
    np.testing.assert_array_equal(file.float32("a.weight"), x, strict=True)


# -- metadata

LIMITS = {
    files.U8: (0, 255),
    files.I8: (-128, 127),
    files.U16: (0, 2**16 - 1),
    files.I16: (-(2**15), 2**15 - 1),
    files.U32: (0, 2**32 - 1),
    files.I32: (-(2**31), 2**31 - 1),
    files.U64: (0, 2**64 - 1),
    files.I64: (-(2**63), 2**63 - 1),
    files.F32: (-1.5, 3.0e38),
    files.F64: (-1.5, 1.0e308),
    files.BOOL: (False, True),
}


@pytest.mark.parametrize("kind", LIMITS)
def test_every_scalar_and_arrays_of_it(tmp_path: Path, kind: int) -> None:
    low, high = LIMITS[kind]
    code = files.SCALARS[kind]
    expected = [struct.unpack("<" + code, struct.pack("<" + code, x))[0] for x in (low, high)]
    items = [struct.pack("<" + code, x) for x in (low, high, low)]
    metadata = [
        ("low", files.scalar(kind, low)),
        ("high", files.scalar(kind, high)),
        ("all", files.array(kind, items)),
        ("none", files.array(kind, [])),
    ]
    found = opened(tmp_path / "m", files.raw(metadata)).metadata
    assert found == {"low": expected[0], "high": expected[1], "all": [*expected, expected[0]], "none": []}
    assert all(type(found[key]) is type(low) for key in ("low", "high"))
    assert all(type(item) is type(low) for item in found["all"])


@pytest.mark.parametrize("text", ["", "x", "\0", "ä▁🙂", "a\nb", "\u200d" * 3, "x" * 70000])
def test_strings_and_arrays_of_them(tmp_path: Path, text: str) -> None:
    metadata = [
        (text, files.value(files.STRING, files.string(text))),
        ("all", files.array(files.STRING, [files.string(text), files.string("")])),
    ]
    assert opened(tmp_path / "m", files.raw(metadata)).metadata == {text: text, "all": [text, ""]}


def test_the_metadata_that_the_package_writes(tmp_path: Path) -> None:
    entries: dict[str, Any] = {
        "a.int": 7,
        "a.float": 0.25,
        "a.flag": True,
        "a.text": "täxt",
        "a.words": ["ä", "bc", ""],
        "a.numbers": [1, -2, 3],
        "a.floats": [0.5, 1.5],
        "a.flags": [True, False],
        "a.long": files.Typed(2**40, ValueType.UINT64),
        "a.bytes": files.Typed([1, 2, 255], ValueType.ARRAY, ValueType.UINT8),
    }
    found = GGUFFile(files.write(tmp_path / "m", "llama", entries, {})).metadata
    expected = {k: v.value if isinstance(v, files.Typed) else v for k, v in entries.items()}
    assert found == {"general.architecture": "llama", **expected}


def test_arrays_of_arrays_are_refused_by_name(tmp_path: Path) -> None:
    entries = {"a.nested": files.Typed([[1, 2], [3]], ValueType.ARRAY)}
    with pytest.raises(UnsupportedModelError, match="metadata: a.nested: an array of arrays"):
        GGUFFile(files.write(tmp_path / "m", "llama", entries, {}))


# -- broken files


def check_broken(path: Path, data: bytes, message: str, error: type[AerogelError] = CheckpointError) -> None:
    path.write_bytes(data)
    with pytest.raises(error, match=message) as caught:
        GGUFFile(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"GGU", r"not a GGUF file: magic: expected b'GGUF', got b'GGU'"),
        (b"GGJT\1\0\0\0", "got b'GGJT'"),
        (b"FUGG\0\0\0\3", "got b'FUGG'"),
        (b"GGUF\3\0", "truncated: version: expected 4 bytes at 4, the file has 2 left"),
        (b"GGUF\3\0\0\0\0", "truncated: tensor count: expected 8 bytes"),
        (b"GGUF\3\0\0\0" + bytes(9), "truncated: metadata count: expected 8 bytes at 16, the file has 1 left"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "run 'git lfs pull'"),
    ],
)
def test_broken_beginning(tmp_path: Path, data: bytes, message: str) -> None:
    check_broken(tmp_path / "m.gguf", data, message)


@pytest.mark.parametrize(("version", "got"), [(0, "got 0"), (1, "got 1"), (4, "got 4"), (2**32 - 1, "got 4294967295")])
def test_other_versions_are_named(tmp_path: Path, version: int, got: str) -> None:
    data = files.raw(version=version)
    check_broken(tmp_path / "m", data, f"GGUF version: expected 2 or 3, {got}", UnsupportedModelError)


def test_version_2_is_the_same(tmp_path: Path) -> None:
    metadata = [("a", files.scalar(files.U8, 3))]
    tensors, data = [files.info("t.weight", (2,), Type.F32, 0)], np.array([1, 2], "<f4").tobytes()
    file = opened(tmp_path / "m", files.raw(metadata, tensors, data, version=2))
    assert file.metadata == {"a": 3}
    np.testing.assert_array_equal(file.float32("t.weight"), [1, 2])


def test_big_endian_files_are_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "m"), "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_tensor("a.weight", np.zeros(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedModelError, match="expected 2 or 3, got a big-endian file"):
        GGUFFile(tmp_path / "m")


def test_no_such_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read"):
            GGUFFile(path)


X = files.scalar(files.U8, 1)
T = files.info("t", (2, 4), Type.F32, 0)
HUGE = 2**64 - 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (files.raw([("k", X), ("k", X)]), "metadata: k occurs twice"),
        (files.raw([(b"\xff\xfe", X)]), "metadata key 0: expected UTF-8"),
        (files.raw([("k", files.value(files.STRING, files.string(b"\xc3")))]), "k: expected UTF-8"),
        (files.raw([("k", files.array(files.STRING, [files.string(b"\x80")]))]), "k: expected UTF-8"),
        (files.raw([("k", files.value(13, bytes(8)))]), "metadata: k: unknown value type 13"),
        (files.raw([("k", files.array(77, [bytes(8)]))]), "metadata: k: unknown element type 77"),
        (files.raw([("k", X)], alignment=1, metadata_count=2), "truncated: metadata key 1: expected"),
        (files.raw([("k", X)], alignment=1, metadata_count=HUGE), "truncated: metadata key 1: expected"),
        (
            files.raw([("k", files.value(files.STRING, struct.pack("<Q", HUGE)))]),
            f"truncated: k: expected {HUGE} bytes",
        ),
        (files.raw([("k", files.value(files.ARRAY, struct.pack("<IQ", files.U8, HUGE)))]), "truncated: k"),
        (files.raw([("k", files.value(files.ARRAY, struct.pack("<IQ", files.F64, 2**61)))]), "truncated: k"),
        (files.raw([("k", files.value(files.ARRAY, struct.pack("<IQ", files.STRING, HUGE)))]), "expected .* strings"),
        (files.raw([("k", files.value(files.ARRAY, struct.pack("<IQ", files.STRING, 3)))]), "truncated: k"),
        (files.raw((), [T], alignment=1, tensor_count=HUGE), "truncated: name of tensor 1"),
        (files.raw((), [T, T], bytes(64)), "tensor t occurs twice"),
        (files.raw((), [files.info(b"\xff", (4,), 0, 0)], bytes(16)), "name of tensor 0: expected UTF-8"),
        (files.raw((), [files.info("t", (), 0, 0)], bytes(16)), "t: expected 1 to 4 dimensions, got 0"),
        (files.raw((), [files.info("t", (1,) * 5, 0, 0)], bytes(16)), "t: expected 1 to 4 dimensions, got 5"),
        (files.raw((), [files.string("t") + struct.pack("<I", 2**32 - 1)]), "dimensions, got 4294967295"),
        (files.raw((), [files.info("t", (0, 4), 0, 0)], bytes(16)), r"t: expected no empty dimension, got \[0, 4\]"),
        (files.raw((), [files.info("t", (4, 0), 0, 0)], bytes(16)), r"t: expected no empty dimension, got \[4, 0\]"),
        (files.raw((), [files.info("t", (2, 48), Type.Q8_0, 0)], bytes(99)), r"a multiple of 32 .*, got \[2, 48\]"),
        (files.raw((), [files.info("t", (2, 32), Type.Q6_K, 0)], bytes(99)), r"a multiple of 256 .*, got \[2, 32\]"),
        (files.raw((), [T], bytes(31)), "truncated: t ends at byte 128, the file has 127"),
        (files.raw((), [files.info("t", (HUGE,) * 4, 0, 0)], bytes(32)), "truncated: t ends at byte"),
        (files.raw((), [files.info("t", (2**62, 4), 0, 0)], bytes(32)), "truncated: t ends at byte"),
        (files.raw((), [files.info("t", (2, 4), 0, 64)], bytes(64)), "truncated: t ends at byte 192, the file has 160"),
        (files.raw((), [files.info("t", (2, 4), 0, 2**64 - 32)], bytes(64)), "truncated: t ends at byte"),
        (files.raw((), [files.info("t", (2, 4), 0, 4)], bytes(64)), "t: offset: expected a multiple of 32, got 4"),
        (files.raw((), [T, files.info("u", (4,), 0, 0)], bytes(64)), "overlaps"),
        (
            files.raw((), [files.info("t", (16,), 0, 0), files.info("u", (4,), 0, 32)], bytes(64)),
            "u: overlaps t: expected to begin at 160 or after, got 128",
        ),
        *(
            (
                files.raw([("general.alignment", entry)], [T], bytes(64)),
                "general.alignment: expected a power of two, got",
            )
            for entry in (
                files.scalar(files.U32, 0),
                files.scalar(files.U32, 24),
                files.scalar(files.I32, -8),
                files.scalar(files.F32, 32.0),
                files.scalar(files.BOOL, True),
                files.array(files.U8, [b"\x20"]),
                files.value(files.STRING, files.string("32")),
            )
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken_header(tmp_path: Path, data: bytes, message: str) -> None:
    check_broken(tmp_path / "m.gguf", data, message)


def test_an_alignment_beyond_the_file(tmp_path: Path) -> None:
    metadata = [("general.alignment", files.scalar(files.U64, 2**63))]
    assert opened(tmp_path / "m", files.raw(metadata)).tensors == {}
    check_broken(tmp_path / "m", files.raw(metadata, [T], bytes(64)), "truncated: t ends at byte")


def small_file(path: Path) -> bytes:
    """Every kind of entry."""
    entries = {"a": 1, "b": "text", "c": ["x", "yz"], "d": [1.5, 2.5], "e": True}
    tensors = {
        "t.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "q.weight": files.quantized(np.ones((2, 32), np.float32), Type.Q8_0),
    }
    return files.write(path, "llama", entries, tensors).read_bytes()


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    data = small_file(tmp_path / "m")
    file = GGUFFile(tmp_path / "m")
    end = max(tensor.end for tensor in file.tensors.values())  # padding may follow
    for length in range(end):
        with pytest.raises(CheckpointError):
            opened(tmp_path / "m", data[:length])
    assert set(opened(tmp_path / "m", data[:end]).tensors) == {"t.weight", "q.weight"}


def read_all(path: Path, data: bytes) -> None:
    """Opens the file and decodes all of it, or raises an AerogelError; anything else fails the test."""
    try:
        file = opened(path, data)
        for name, tensor in file.tensors.items():
            values = file.float32(name)
            assert values.shape == tensor.shape and values.dtype == np.float32
    except AerogelError:
        pass


def header_end(file: GGUFFile) -> int:
    return min(tensor.begin for tensor in file.tensors.values())


def test_every_changed_byte_of_the_header(tmp_path: Path) -> None:
    data = small_file(tmp_path / "m")
    for position in range(header_end(GGUFFile(tmp_path / "m"))):
        for byte in (0, 1, 8, 0x7F, 0xFF, data[position] ^ 1):
            read_all(tmp_path / "m", data[:position] + bytes([byte]) + data[position + 1 :])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 400),
            st.sampled_from(["overwrite", "insert", "remove"]),
            st.one_of(
                st.binary(min_size=1, max_size=9),
                st.integers(0, 2**64 - 1).map(lambda n: n.to_bytes(8, "little")),
                st.sampled_from([1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**60]).map(lambda n: n.to_bytes(8, "little")),
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_mutated_headers(tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, str, bytes]]) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.gguf"
    data = small_file(path)
    for position, edit, patch in edits:
        after = position if edit == "insert" else position + len(patch)
        data = data[:position] + (b"" if edit == "remove" else patch) + data[after:]
    read_all(path, data)


KINDS = st.sampled_from([*range(14), 2**31])
NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 32, 64, 256, 2**31, 2**32, 2**61, 2**63, 2**64 - 1])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "general.alignment"]), KINDS, st.binary(max_size=24)), max_size=3),
    st.lists(st.tuples(st.sampled_from("tu"), st.lists(NUMBERS, max_size=5), st.integers(0, 42), NUMBERS), max_size=3),
    st.integers(0, 700),
)
def test_random_headers(tmp_path_factory, metadata, tensors, size) -> None:
    data = files.raw(
        [(key, files.value(kind, value)) for key, kind, value in metadata],
        [files.info(name, shape, kind, offset) for name, shape, kind, offset in tensors],
        bytes(size),
    )
    read_all(tmp_path_factory.getbasetemp() / "random.gguf", data)


@pytest.mark.parametrize(
    "data",
    [
        files.raw(tensor_count=HUGE, metadata_count=HUGE) + bytes(4096),
        files.raw(tensor_count=2**40) + bytes(4096),
        files.raw([("k", files.value(files.STRING, struct.pack("<Q", 2**40)))]) + bytes(4096),
        *(
            files.raw([("k", files.value(files.ARRAY, struct.pack("<IQ", kind, 2**n)))]) + bytes(4096)
            for kind in (files.U8, files.F64, files.STRING, files.ARRAY)
            for n in (30, 40, 63)
        ),
        files.raw((), [files.info("t", (2**30, 2**30, 2**3), Type.F32, 0)]) + bytes(4096),
    ],
)
def test_counts_that_no_file_holds_cost_nothing(tmp_path: Path, data: bytes) -> None:
    """Neither memory nor time is spent on what a header only announces."""
    (tmp_path / "m").write_bytes(data)
    tracemalloc.start()
    try:
        begin = time.perf_counter()
        with pytest.raises(AerogelError):
            GGUFFile(tmp_path / "m")
        assert time.perf_counter() - begin < 1.0
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_without_the_gguf_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_file(tmp_path / "m")
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    assert GGUFFile(tmp_path / "m").tensors  # of types that are known here
    with pytest.raises(UnsupportedModelError, match="tensors of type 16 .* pip install gguf"):
        type_of(16)


def test_types_are_those_of_the_gguf_package() -> None:
    assert {kind.name for kind in KNOWN.values()} >= {"F32", "F16", "BF16", *block_types()}
    for number, kind in KNOWN.items():
        theirs = gguf.GGMLQuantizationType(number)
        assert (kind.name, kind.elements, kind.bytes) == (theirs.name, *gguf.GGML_QUANT_SIZES[theirs])
        assert type_of(number) == kind
    assert type_of(10**6) is None and type_of(16) == ("IQ2_XXS", 256, 66)


def test_vocabularies_stay_as_the_file_has_them(tmp_path: Path) -> None:
    words = FileArray(b"".join(struct.pack("<Q", len(w)) + w for w in (b"a", b"", "\u2581b".encode())), 3, None)
    assert list(words) == ["a", "", "\u2581b"] and len(words) == 3 and words[2] == words[-1] == "\u2581b"
    assert words[1:] == ["", "\u2581b"] and repr(words) == repr(list(words))
    numbers = FileArray(struct.pack("<3f", 0.5, -1, 2), 3, struct.Struct("<f"))
    assert list(numbers) == [0.5, -1.0, 2.0] and numbers[1] == -1.0 and 2.0 in numbers
    for array in (words, numbers):
        with pytest.raises(IndexError):
            array[3]

"""Compressed byte tensors: the coder from Python, files with them, and models loaded from those."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load_file

import aerogel
from aerogel import _core
from aerogel.checkpoint import open_checkpoint
from aerogel.checkpoint.entropy import entropy_bits, mask_entropy_bits, weight_entropy_bits
from aerogel.checkpoint.packed.small import SUFFIX, SmallSafetensorsFile, SmallSafetensorsWriter
from aerogel.checkpoint.packed.writer import add_weight
from aerogel.checkpoint.safetensors_file import SafetensorsFile
from aerogel.checkpoint.safetensors_writer import SafetensorsWriter
from aerogel.checkpoint.weight import Weight
from aerogel.errors import AerogelError, CheckpointError, DataError, ShapeError
from aerogel.quantize import int8
from aerogel.quantize.stored import to_weight


def sparse_codes(n: int, k: int, sparsity: float, seed: int = 0) -> Weight:
    """Gaussian weights, pruned by magnitude, int8."""
    w = np.random.default_rng(seed).standard_normal((n, k)).astype(np.float32)
    w[np.abs(w) < np.quantile(np.abs(w), sparsity)] = 0
    return to_weight(int8(w))


def write(path: Path, tensors: dict[str, np.ndarray], small: bool = True) -> Path:
    writer = (SmallSafetensorsWriter if small else SafetensorsWriter)(path)
    for name, array in tensors.items():
        writer.add(name, array)
    writer.close({})
    return path


# ---- the coder


@settings(deadline=None)
@given(
    arrays.arrays(st.sampled_from([np.uint8, np.int8]), arrays.array_shapes(max_dims=4, max_side=12)),
    st.integers(1, 300),
)
def test_what_is_coded_comes_back(tensor: np.ndarray, repeat: int) -> None:
    tensor = np.repeat(tensor, repeat, axis=0)
    blob = _core.encode_bytes(tensor)
    if blob is None:
        return
    assert blob.nbytes < tensor.nbytes
    assert _core.coded_header("w", blob[:80], blob.size) == ("I8" if tensor.dtype == np.int8 else "U8", tensor.shape)
    for isa in _core.supported_isas():
        for threads in (1, 2):
            np.testing.assert_array_equal(_core.decode_bytes("w", blob, threads, isa), tensor, strict=True)
    assert np.array_equal(_core.encode_bytes(tensor), blob)


_WINDOWS = np.random.default_rng(0).permuted(np.tile(np.arange(64) < 8, (40, 3, 1)), axis=2)
DAMAGED = {
    "codes": sparse_codes(64, 96, 0.5).values,
    "mask": sparse_codes(64, 192, 0.9).mask,
    "windows": np.packbits(_WINDOWS, axis=2).reshape(40, 24),
}


@settings(deadline=None)
@given(st.data(), st.sampled_from(list(DAMAGED)))
def test_a_damaged_blob_is_refused(data: st.DataObject, kind: str) -> None:
    tensor = DAMAGED[kind]
    blob = _core.encode_bytes(tensor)
    assert blob is not None and blob[7] == (kind == "windows")
    length = data.draw(st.integers(0, len(blob)))
    place = data.draw(st.integers(0, min(len(blob) - 1, data.draw(st.sampled_from([100, len(blob)])))))
    change = data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=8))
    broken = blob.copy()
    broken[place : place + len(change)] = change[: len(blob) - place]
    if data.draw(st.booleans()):
        broken = broken[:length]
    try:
        decoded = _core.decode_bytes("the tensor", broken)
    except DataError as error:
        assert str(error).startswith("the tensor: ")
    else:
        np.testing.assert_array_equal(decoded, tensor, strict=True)


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(0, 8), st.integers(0, 1))
def test_any_bytes_are_refused(body: bytes, dimensions: int, method: int) -> None:
    blob = np.frombuffer(b"aes\x01\x00\x01" + bytes([dimensions, method]) + body, np.uint8)
    with pytest.raises(DataError, match="^w: "):
        _core.decode_bytes("w", blob)


def test_a_huge_shape_is_refused_before_memory_is_asked_for() -> None:
    blob = _core.encode_bytes(np.zeros((100, 100), np.int8))
    for shape in ([2**62, 4], [2**40, 2**40], [2**63, 2], [2**64 - 1, 2**64 - 1], [10**12, 1]):
        broken = blob.copy()
        broken[16:32] = np.array(shape, np.uint64).view(np.uint8)
        with pytest.raises(DataError, match="cannot stand for a tensor of more than"):
            _core.decode_bytes("w", broken)


def test_only_bytes_are_coded() -> None:
    with pytest.raises(ShapeError, match="expected uint8 or int8, got float32"):
        _core.encode_bytes(np.zeros(100, np.float32))
    with pytest.raises(ShapeError, match="C-contiguous"):
        _core.encode_bytes(np.zeros((10, 10), np.int8)[:, ::2])
    with pytest.raises(ShapeError, match="w: expected uint8"):
        _core.decode_bytes("w", np.zeros(100, np.int8))


@pytest.mark.parametrize("sparsity", [0, 0.5, 0.7, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("levels", [127, 7])
def test_bits_per_weight_are_near_the_entropy(sparsity: float, levels: int) -> None:
    w = np.random.default_rng(0).standard_normal((768, 768)).astype(np.float32)
    w[np.abs(w) < np.quantile(np.abs(w), sparsity)] = 0
    codes = np.rint(w * levels / np.abs(w).max(axis=1, keepdims=True)).astype(np.int8)
    stored = codes != 0
    mask = np.packbits(stored, axis=1, bitorder="little") if sparsity else None
    weight = Weight(w.shape, codes[stored] if sparsity else codes, np.ones(768, np.float32), mask)
    parts = [part for part in (weight.mask, weight.values) if part is not None]
    blobs = [_core.encode_bytes(part) for part in parts]
    size = sum(part.nbytes if blob is None else blob.nbytes for part, blob in zip(parts, blobs))
    assert 8 * size / w.size < 1.02 * weight_entropy_bits(weight)


@pytest.mark.parametrize("pattern", ["2:4", "4:8", "8:64", "16:64"])
def test_bits_of_patterns_are_near_the_entropy(pattern: str) -> None:
    q, m = (int(part) for part in pattern.split(":"))
    stored = np.random.default_rng(0).permuted(np.tile(np.arange(m) < q, (768, 768 // m, 1)), axis=2)
    mask = np.packbits(stored.reshape(768, 768), axis=1, bitorder="little")
    exact = np.log2(float(np.prod([(m - i) / (q - i) for i in range(q)]))) / m
    assert mask_entropy_bits(mask, 768) / mask.size / 8 == pytest.approx(exact, rel=2e-3)
    assert _core.encode_bytes(mask).nbytes < 1.04 * exact * mask.size


def test_pairs_of_equal_rows_take_half() -> None:
    mask = sparse_codes(256, 768, 0.8).mask
    both = _core.encode_bytes(np.repeat(mask, 2, axis=0))
    assert abs(both.nbytes - _core.encode_bytes(mask).nbytes) < 8


# ---- files


def test_a_file_looks_plain(tmp_path: Path) -> None:
    weight = sparse_codes(96, 200, 0.8)
    tensors = {
        "w_bitmask": weight.mask,
        "w_values": weight.values,
        "w_scale": weight.scale,
        "noise": np.random.default_rng(0).integers(0, 256, (30, 30)).astype(np.uint8),
        "shape": np.array([96, 200]),
        "nothing": np.zeros(0, np.int8),
    }
    file = SmallSafetensorsFile(write(tmp_path / "small", tensors))
    assert file.entries.keys() == tensors.keys()
    for name, array in tensors.items():
        assert file.entries[name].shape == array.shape
        np.testing.assert_array_equal(file.raw(name), array, strict=True)
        np.testing.assert_array_equal(file.raw(name), array, strict=True)
    stored = load_file(tmp_path / "small")  # any safetensors reader opens it
    assert stored.keys() == {"w_bitmask_small", "w_values_small", "w_scale", "noise", "shape", "nothing"}
    assert stored["w_values_small"].nbytes == file.stored_bytes("w_values") < weight.values.nbytes
    assert (tmp_path / "small").stat().st_size < write(tmp_path / "plain", tensors, False).stat().st_size
    assert not any(name.endswith(SUFFIX) for name in SafetensorsFile(tmp_path / "plain").entries)


def test_add_weight_tells_the_bytes_in_the_file(tmp_path: Path) -> None:
    weight = sparse_codes(96, 256, 0.9)
    writer = SmallSafetensorsWriter(tmp_path / "file")
    size = add_weight(writer, "w", weight)
    writer.close({})
    file = SmallSafetensorsFile(tmp_path / "file")
    assert size == sum(file.stored_bytes(name) for name in file.entries) < 0.8 * weight.nbytes
    with pytest.raises(ValueError, match="twice"):
        writer.add("w_bitmask", weight.mask)


def test_broken_files_are_named_errors(tmp_path: Path) -> None:
    codes = sparse_codes(96, 256, 0.5).values
    blob = _core.encode_bytes(codes)
    for tensors, message in (
        ({"w_small": blob, "w": codes}, "w is stored twice, plain and compressed"),
        ({"w_small": blob.view(np.int8)}, r"w_small: expected U8 \[bytes\], got I8"),
        ({"w_small": blob[None]}, r"w_small: expected U8 \[bytes\], got U8 \[1, "),
    ):
        with pytest.raises(CheckpointError, match=message):
            SmallSafetensorsFile(write(tmp_path / "file", tensors, small=False))
    with pytest.raises(DataError, match="w_small: truncated"):
        SmallSafetensorsFile(write(tmp_path / "file", {"w_small": blob[:10]}, small=False))
    with pytest.raises(DataError, match="w_small: not a coded tensor"):
        SmallSafetensorsFile(write(tmp_path / "file", {"w_small": np.zeros(1000, np.uint8)}, small=False))
    blob[-5] ^= 1
    file = SmallSafetensorsFile(write(tmp_path / "file", {"w_small": blob}, small=False))
    with pytest.raises(DataError, match="file: w_small: damaged"):
        file.raw("w")


# ---- models


@pytest.fixture
def packed(bert_folder: Path, tmp_path: Path) -> dict[bool, Path]:
    """The tiny BERT at 80 %, plain (False) and small (True)."""
    folders = {small: tmp_path / f"small-{small}" for small in (False, True)}
    for small, folder in folders.items():
        aerogel.compress(bert_folder, folder, 0.8, pack="small" if small else "plain")
    return folders


def test_a_small_model_is_the_plain_model(packed: dict[bool, Path]) -> None:
    files = {small: folder / "model.safetensors" for small, folder in packed.items()}
    assert files[True].stat().st_size < files[False].stat().st_size
    assert any(name.endswith(SUFFIX) for name in SafetensorsFile(files[True]).entries)
    plain, small = open_checkpoint(packed[False]), open_checkpoint(packed[True])
    assert plain.names() == small.names()
    for name in plain.names():
        assert plain.shape(name) == small.shape(name)
        np.testing.assert_array_equal(plain.array(name), small.array(name), strict=True)
    ids, offsets = [5, 6, 7, 8, 5, 6, 7, 9, 10], [0, 3, 9]
    expected = aerogel.load(packed[False]).forward(ids, offsets)
    for threads in (1, 2):
        np.testing.assert_array_equal(aerogel.load(packed[True], threads=threads).forward(ids, offsets), expected)


def test_a_damaged_model_is_a_named_error(packed: dict[bool, Path], tmp_path: Path) -> None:
    path = packed[True] / "model.safetensors"
    length = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + length])
    coded = {name: 8 + length + value["data_offsets"][1] for name, value in header.items() if name.endswith(SUFFIX)}
    assert coded
    for name, end in coded.items():
        folder = shutil.copytree(packed[True], tmp_path / "broken", dirs_exist_ok=True)
        content = bytearray(path.read_bytes())
        content[end - 3] ^= 0x10
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(AerogelError, match=f"{name}: "):
            aerogel.load(folder)


def test_threads_read_one_file_at_once(packed: dict[bool, Path]) -> None:
    checkpoint = open_checkpoint(packed[True])
    names = [name for name in checkpoint.names() if len(checkpoint.shape(name)) == 2] * 8
    expected = [checkpoint.weight(name).dense() for name in names]
    with ThreadPoolExecutor(4) as pool:
        for got, right in zip(pool.map(lambda name: checkpoint.weight(name).dense(), names), expected):
            np.testing.assert_array_equal(got, right)


def test_real_weights_are_near_the_entropy(minilm: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(minilm)
    dense = checkpoint.weight("encoder.layer.2.intermediate.dense.weight").dense()
    weight = to_weight(int8(np.where(np.abs(dense) < np.quantile(np.abs(dense), 0.9), np.float32(0), dense)))
    size = sum(_core.encode_bytes(part).nbytes for part in (weight.mask, weight.values))
    assert 8 * size / dense.size < 1.02 * weight_entropy_bits(weight)
    writer = SmallSafetensorsWriter(tmp_path / "file")
    assert 20 * add_weight(writer, "w", weight) < dense.nbytes


# ---- entropy


def test_entropy_of_known_histograms() -> None:
    assert entropy_bits(np.arange(256).astype(np.uint8)) == 8 * 256
    assert entropy_bits(np.zeros(100, np.int8)) == 0
    assert entropy_bits(np.zeros(0, np.int8)) == 0
    assert entropy_bits(np.array([-1, 1] * 50, np.int8)) == pytest.approx(100)


def test_entropy_of_a_weight() -> None:
    n, k = 512, 1000  # not whole windows
    weight = sparse_codes(n, k, 0.9)
    p = weight.values.size / (n * k)
    expected = -p * np.log2(p) - (1 - p) * np.log2(1 - p) + p * entropy_bits(weight.values) / weight.values.size
    assert weight_entropy_bits(weight) == pytest.approx(expected, rel=2e-3)
    assert weight_entropy_bits(Weight((2, 3), np.zeros((2, 3), np.float32))) == 32
    assert weight_entropy_bits(Weight((2, 3), np.zeros((2, 3), np.uint16))) == 16
    empty = Weight((4, 64), np.zeros(0, np.int8), np.ones(4, np.float32), np.zeros((4, 8), np.uint8))
    assert weight_entropy_bits(empty) == 0

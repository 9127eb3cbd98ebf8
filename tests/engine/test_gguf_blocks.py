"""GGUF files run in their own blocks: what blocks decode to, what linears compute, and what models take in memory."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

import aerogel
from aerogel import _core
from aerogel.checkpoint import open_checkpoint
from aerogel.checkpoint.blocks import Blocks
from aerogel.errors import DataError, ShapeError

from ..checkpoint.gguf import files

TYPES = tuple(_core.block_types())
#: Where the float16 numbers of a block stand; the rest of it may hold anything.
HALVES = {
    **{name: (0,) for name in ("Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "IQ4_XS")},
    **{name: (0, 2) for name in ("Q4_1", "Q5_1", "Q4_K", "Q5_K")},
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q6_K": (208,),
    "MXFP4": (),
}


def random_blocks(name: str, n: int, k: int) -> np.ndarray:
    """uint8 [n, bytes of a row]: any bits, but scales of moderate size."""
    rng = np.random.default_rng(7)
    columns, size = _core.block_types()[name]
    blocks = rng.integers(0, 256, (n, k // columns, size), np.uint8)
    for at in HALVES[name]:
        scales = (0.02 * rng.standard_normal((n, k // columns, 1))).astype(np.float16)
        blocks[:, :, at : at + 2] = scales.view(np.uint8)
    if name == "MXFP4":  # powers of two: subnormal ones too
        blocks[:, :, 0] = rng.integers(110, 130, (n, k // columns))
        blocks[0, :, 0] = np.arange(k // columns) % 3
    return blocks.reshape(n, -1)


def rounded(x: np.ndarray) -> np.ndarray:
    """x as the kernels see it: int8 codes, a scale every 32 columns; float64."""
    parts = x.reshape(-1, 32)
    largest = np.abs(parts).max(1, keepdims=True)
    codes = np.rint(parts * (np.float32(127) / np.where(largest > 0, largest, np.float32(1))))
    return (codes.astype(np.float64) * (largest / np.float32(127))).reshape(x.shape)


def test_types_are_those_of_the_package() -> None:
    assert set(HALVES) == set(TYPES)
    for name, size in _core.block_types().items():
        assert size == gguf.GGML_QUANT_SIZES[GGMLQuantizationType[name]]


@pytest.mark.parametrize("name", TYPES)
def test_blocks_decode_as_in_the_package(name: str) -> None:
    blocks = random_blocks(name, 5, 512)
    expected = quants.dequantize(blocks, GGMLQuantizationType[name]).astype(np.float32)
    np.testing.assert_array_equal(_core.decode_blocks(blocks, name), expected)


@pytest.mark.parametrize("name", TYPES)
def test_linears_multiply_what_the_blocks_hold(name: str) -> None:
    n, k = 37, 768
    blocks = random_blocks(name, n, k)
    dense = _core.decode_blocks(blocks, name)
    source = _core.WeightSource(k)
    source.add_blocks("w", blocks, name)
    assert source.numbers == "blocks" and source.holds("grouped_qn") and source.holds("dense_f32")
    assert not source.holds("dense_q8")
    weight = _core.pack(source)
    assert [form["format"] for form in weight.forms] == ["grouped_qn"]
    np.testing.assert_array_equal(np.stack([weight.row(row) for row in range(n)]), dense)
    x = np.random.default_rng(1).standard_normal((7, k), np.float32)
    x[2, :64] = 0
    x[3, 100] = 1000  # costs the accuracy of its own 32 columns, of no others
    bias = np.arange(n, dtype=np.float32)
    y = _core.linear(weight, x, bias)
    expected = rounded(x) @ dense.T.astype(np.float64) + bias
    magnitude = np.abs(x) @ np.abs(dense).T + np.abs(bias)
    assert (np.abs(y - expected) <= 1e-6 * magnitude.max()).all()
    np.testing.assert_array_equal(y, _core.linear(_core.pack(source, "grouped_qn", isa="scalar"), x, bias))


@pytest.mark.parametrize("name", TYPES)
def test_packed_blocks_take_their_own_size(name: str) -> None:
    blocks = random_blocks(name, 64, 2048)
    source = _core.WeightSource(2048)
    source.add_blocks("w", blocks, name)
    assert _core.pack(source).nbytes <= 1.2 * blocks.nbytes


def test_what_is_no_block_is_refused() -> None:
    source = _core.WeightSource(512)
    with pytest.raises(DataError, match="type of blocks: expected one of Q4_0, .*, got 'Q9_Z'"):
        source.add_blocks("w", np.zeros((2, 288), np.uint8), "Q9_Z")
    with pytest.raises(DataError, match="w: expected 576 bytes of blocks, got 600"):
        source.add_blocks("w", np.zeros((2, 300), np.uint8), "Q4_K")
    with pytest.raises(DataError, match="w: a block of row 1 has a scale that is not finite"):
        bad = random_blocks("Q4_K", 2, 512)
        bad[1, 144:146] = (0, 0x7C)
        source.add_blocks("w", bad, "Q4_K")
    with pytest.raises(ShapeError, match="expected a multiple of 256 columns, got 64"):
        _core.WeightSource(64).add_blocks("w", np.zeros((2, 36), np.uint8), "Q4_K")
    with pytest.raises(ShapeError, match="blocks of type Q4_0: expected \\[2, 36\\] bytes"):
        Blocks((2, 64), np.zeros((2, 35), np.uint8), "Q4_0")


def quantized(path: Path, arch: str, kinds: tuple[str, ...]) -> Path:
    """A tiny model whose matrices are in blocks of these types, in turn: the parts of a stack have different ones."""
    config = {
        **files.CONFIGS[arch],
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        **({} if arch == "bert" else {"num_key_value_heads": 2}),
    }
    weights = files.weights_of(config)
    matrices = {name: tensor for name, tensor in files.tensors_of(arch, config, weights).items() if tensor.ndim == 2}
    blocks = {
        name: files.quantized(np.ascontiguousarray(tensor, np.float32), GGMLQuantizationType[kinds[i % len(kinds)]])
        for i, (name, tensor) in enumerate(matrices.items())
    }
    return files.write_model(path / f"{arch}.gguf", arch, config, weights, extra=blocks)


@pytest.mark.parametrize("kinds", [("Q8_0",), ("Q4_0", "Q5_1", "Q8_0", "Q4_1", "Q5_0")], ids=["one type", "types"])
@pytest.mark.parametrize("arch", files.CONFIGS)
def test_a_model_runs_in_its_own_blocks(tmp_path: Path, arch: str, kinds: tuple[str, ...]) -> None:
    path = quantized(tmp_path, arch, kinds)
    model, dense = aerogel.load(path), aerogel.load(path, format="dense_f32")
    formats = {form["format"] for step in model.describe() for form in step.get("forms", ())}
    assert formats == {"grouped_qn"}
    ids = [[5, 9, 11, 7, 17, 6, 5], [8]]
    for got, expected in zip(model.forward(ids), dense.forward(ids), strict=True):
        assert np.linalg.norm(got - expected) <= 0.06 * np.linalg.norm(expected)
    checkpoint = open_checkpoint(path)
    assert model.nbytes < sum(4 * np.prod(checkpoint.shape(name)) for name in checkpoint.names()) / 2


def test_a_tied_head_shares_the_bytes_of_the_table(tmp_path: Path) -> None:
    path = quantized(tmp_path, "llama", ("Q8_0",))
    model = aerogel.load(path)
    layers = {step["name"]: step["nbytes"] for step in model.describe() if "forms" in step}
    assert "lm_head.weight" not in open_checkpoint(path)
    assert model.nbytes == sum(layers.values())

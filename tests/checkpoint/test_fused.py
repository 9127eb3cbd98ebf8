"""Tensors that a file stores as one and a family knows as several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import aerogel
from aerogel.architectures import FAMILIES, Fused, SavedNames, register
from aerogel.architectures.fused import query_key_value
from aerogel.architectures.llama import Llama
from aerogel.architectures.qwen import Qwen2
from aerogel.checkpoint import Checkpoint, open_checkpoint
from aerogel.checkpoint.fused import saved_parts, split_fused
from aerogel.checkpoint.weight import Weight
from aerogel.errors import CheckpointError, ConfigError, MissingTensorsError
from aerogel.numbers.bits import pack_bits

from .. import tiny_models
from ..conftest import random_ids
from ..reference import compressed_tensors as ct

ATTENTION = "layers.{n}.self_attn."
BLOCKS = {
    **{
        short: long
        for short, long in Qwen2.gguf["qwen2"].blocks.items()
        if short[:6] not in ("attn_q", "attn_k", "attn_v")
    },
    "attn_qkv.weight": ATTENTION + "qkv_proj.weight",
    "attn_qkv.bias": ATTENTION + "qkv_proj.bias",
    "ffn_up.weight": "layers.{n}.mlp.gate_up_proj.weight",
}
DEFAULTS = {**Qwen2.gguf["qwen2"].defaults, "model_type": "packed_llama", "architectures": ["PackedForCausalLM"]}
FUSED = (
    Fused(ATTENTION + "qkv_proj", tuple(ATTENTION + f"{x}_proj" for x in "qkv"), query_key_value),
    Fused("layers.{n}.mlp.gate_up_proj", ("layers.{n}.mlp.gate_proj", "layers.{n}.mlp.up_proj")),
)


class Packed(Llama):
    """Llama whose files fuse: heads that share keys and values, biases too."""

    model_types: ClassVar = ("packed_llama",)
    saved: ClassVar = {
        "packed_llama": SavedNames("PackedModel", "model.", ("embed_tokens.", "layers.", "norm."), fused=FUSED)
    }
    gguf: ClassVar = {"packed": replace(Qwen2.gguf["qwen2"], defaults=DEFAULTS, blocks=BLOCKS)}


CONFIG = {
    **tiny_models.LLAMA,
    "model_type": "packed_llama",
    "architectures": ["PackedForCausalLM"],
    "attention_bias": True,
}
PLAIN = {**CONFIG, "model_type": "llama", "architectures": ["LlamaForCausalLM"]}
IDS = [random_ids(CONFIG["vocab_size"], n, n) for n in (3, 7, 5)]


@pytest.fixture
def family() -> Iterator[None]:
    register(Packed)
    yield
    del FAMILIES["packed_llama"]


def fuse(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    weights = dict(weights)
    for fused in FUSED:
        for layer in range(CONFIG["num_hidden_layers"]):
            for kind in ("weight", "bias"):
                parts = [weights.pop(name, None) for name in fused.names(layer, kind)]
                if parts[0] is not None:
                    weights[fused.stored(layer, kind)] = np.concatenate(parts)
    return weights


@pytest.fixture
def folders(family: None, tmp_path: Path) -> tuple[Path, Path]:
    """One model twice: as llama has it, and with fused tensors."""
    weights = tiny_models.llama_weights(PLAIN)
    plain = tiny_models.write(tmp_path / "plain", PLAIN, weights, prefix="model.")
    return plain, tiny_models.write(tmp_path / "fused", CONFIG, fuse(weights), prefix="model.")


def test_parts_are_parameters_of_their_own(folders: tuple[Path, Path]) -> None:
    plain, fused = map(open_checkpoint, folders)
    assert fused.names() == plain.names()
    for name in plain.names():
        assert fused.shape(name) == plain.shape(name)
        np.testing.assert_array_equal(fused.array(name), plain.array(name), strict=True)
    assert "layers.0.self_attn.qkv_proj.weight" not in fused
    name = "layers.1.self_attn.k_proj.weight"
    np.testing.assert_array_equal(fused.weight(name).dense(), plain.weight(name).dense())
    _same_blocks(fused, plain)
    np.testing.assert_array_equal(*(aerogel.load(folder).forward(IDS) for folder in folders))


def _same_blocks(fused: Checkpoint, plain: Checkpoint) -> None:
    for name in plain.names():
        if len(plain.shape(name)) == 2:
            np.testing.assert_array_equal(np.concatenate(list(fused.blocks(name, 7))), plain.array(name))


def test_export_joins_them_under_their_name(folders: tuple[Path, Path], tmp_path: Path) -> None:
    aerogel.compress(folders[1], tmp_path / "packed", sparsity=0.5, quant="none", method="magnitude")
    report = aerogel.export(tmp_path / "packed", tmp_path / "out", max_shard_bytes=20_000)
    assert report.sparsity == pytest.approx(0.5, abs=0.01) and len(report.files) > 1
    before = load_file(folders[1] / "model.safetensors")
    after: dict[str, np.ndarray] = {}
    for file in report.files:
        after.update(load_file(tmp_path / "out" / file))
    assert {name: array.shape for name, array in after.items()} == {name: array.shape for name, array in before.items()}
    name = "model.layers.0.self_attn.qkv_proj.weight"
    np.testing.assert_array_equal(after[name], np.where(after[name] != 0, before[name], 0))
    np.testing.assert_array_equal(*(aerogel.load(tmp_path / folder).forward(IDS) for folder in ("packed", "out")))


def test_layers_of_different_widths_are_shared_out_by_layer(folders: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = {"structure": {"ffn": 0.5, "heads": 0.5}}
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(" ".join(tiny_models.WORDS[i : i + 6]) for i in range(10)))
    aerogel.compress(folders[1], tmp_path / "packed", sparsity=0.0, quant="none", recipe=recipe, calibrate=texts)
    aerogel.export(tmp_path / "packed", tmp_path / "out")
    a, b = (aerogel.load(tmp_path / folder).forward(IDS) for folder in ("packed", "out"))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_mask_of_pytorch_is_split_too(folders: tuple[Path, Path], tmp_path: Path) -> None:
    weights = load_file(folders[1] / "model.safetensors")
    name = "model.layers.0.mlp.gate_up_proj.weight"
    values = weights.pop(name)
    mask = np.random.default_rng(1).integers(0, 2, values.shape).astype(np.float32)
    save_file({**weights, name + "_orig": values, name + "_mask": mask}, folders[1] / "model.safetensors")
    checkpoint, half = open_checkpoint(folders[1]), len(values) // 2
    np.testing.assert_array_equal(checkpoint.array("layers.0.mlp.up_proj.weight"), (values * mask)[half:])


def test_codes_of_compressed_tensors_are_split(folders: tuple[Path, Path], tmp_path: Path) -> None:
    weights = load_file(folders[1] / "model.safetensors")
    name = "model.layers.0.self_attn.qkv_proj.weight"
    random = np.random.default_rng(2)
    codes = random.integers(-127, 128, weights[name].shape).astype(np.int8)
    scales = random.random((len(codes), 1)).astype(np.float32)
    sparse = {"model.layers.0.mlp.gate_up_proj.weight": np.round(random.standard_normal((200, 48)).astype(np.float32))}
    tensors = {key: value for key, value in weights.items() if key not in (name, *sparse)}
    tensors |= {name: codes, name + "_scale": scales}
    for key, value in sparse.items():
        tensors |= ct.behind_mask(key, value)
    scheme = ct.compression(
        {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"},
        sparsity_config={"format": "sparse-bitmask"},
    )
    checkpoint = open_checkpoint(ct.write(tmp_path / "ct", {**CONFIG, "quantization_config": scheme}, tensors))
    for part, rows in zip("qkv", (slice(0, 48), slice(48, 64), slice(64, 80)), strict=True):
        weight = checkpoint.weight(f"layers.0.self_attn.{part}_proj.weight")
        np.testing.assert_array_equal(weight.values, codes[rows], strict=True)
        np.testing.assert_array_equal(weight.scale, scales[rows, 0])
        assert checkpoint.shape(f"layers.0.self_attn.{part}_proj.bias") == (rows.stop - rows.start,)
    up = checkpoint.weight("layers.0.mlp.up_proj.weight")
    assert up.mask is not None
    np.testing.assert_array_equal(up.dense(), next(iter(sparse.values()))[100:])


def test_gguf_is_split_by_the_same_table(folders: tuple[Path, Path], tmp_path: Path) -> None:
    path, names = tmp_path / "fused.gguf", Packed.gguf["packed"]
    writer = gguf.GGUFWriter(path, "packed")
    for key, suffix in names.keys.items():
        if key in CONFIG:
            add = writer.add_float32 if isinstance(CONFIG[key], float) else writer.add_uint32
            add(f"packed.{suffix}", CONFIG[key])
    stored = dict(names.tensors)
    stored |= {f"blk.{i}.{short}": long.format(n=i) for i in range(2) for short, long in names.blocks.items()}
    weights = fuse(tiny_models.llama_weights(PLAIN))
    for name, target in stored.items():
        if target in weights:
            writer.add_tensor(name, weights[target])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    plain, read = open_checkpoint(folders[0]), open_checkpoint(path)
    assert read.names() == plain.names()
    for name in plain.names():
        assert read.shape(name) == plain.shape(name)
        np.testing.assert_array_equal(read.array(name), plain.array(name))
    _same_blocks(read, plain)


def test_training_joins_them_too(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
    from aerogel.train.saving import save

    checkpoint = open_checkpoint(folders[1])
    trained = {"layers.0.self_attn.v_proj.weight": checkpoint.array("layers.0.self_attn.v_proj.weight") + 1}
    save(checkpoint, trained, tmp_path / "trained", {})
    before, after = (load_file(folder / "model.safetensors") for folder in (folders[1], tmp_path / "trained"))
    assert before.keys() == after.keys()
    name = "model.layers.0.self_attn.qkv_proj.weight"
    np.testing.assert_array_equal(after[name][-16:], before[name][-16:] + 1)
    np.testing.assert_array_equal(after[name][:-16], before[name][:-16])
    again = open_checkpoint(tmp_path / "trained")  # with checksums, which are of whole tensors
    np.testing.assert_array_equal(again.array(next(iter(trained))), next(iter(trained.values())))


def test_refusals(family: None) -> None:
    name = "layers.0.self_attn.qkv_proj.weight"
    with pytest.raises(ConfigError, match=r"qkv_proj.weight: expected rows in the proportion 6:2:2, got 79"):
        split_fused({name: "s"}, lambda stored: 79, CONFIG, "here")
    with pytest.raises(ConfigError, match="num_hidden_layers: expected more than 7"):
        split_fused({name.replace("0", "7"): "s"}, lambda stored: 80, CONFIG, "here")
    part = "layers.0.self_attn.k_proj.weight"
    with pytest.raises(CheckpointError, match=r"here: 'k' and 's' both hold the parameter 'layers.0.self_attn.k_proj"):
        split_fused({name: "s", part: "k"}, lambda stored: 80, CONFIG, "here")
    with pytest.raises(MissingTensorsError, match=r"layers.0.self_attn.q_proj.weight"):
        saved_parts([part], CONFIG)


@pytest.mark.parametrize("form", ["dense", "grouped", "masked", "levels", "masked levels"])
def test_rows_of_a_weight(form: str) -> None:
    random = np.random.default_rng(3)
    n, k = 10, 24
    kept = random.random((n, k)) < 0.4
    mask = np.packbits(kept, axis=1, bitorder="little")
    codes = random.integers(-127, 128, (n, k)).astype(np.int8)
    index = random.integers(0, 5, (n, k)).astype(np.uint8)
    levels = np.array([-90, -30, 0, 30, 90], np.int8)
    scale = random.random(n).astype(np.float32)
    weight = {
        "dense": Weight((n, k), random.random((n, k)).astype(np.float32)),
        "grouped": Weight((n, k), codes, random.random((n, 3)).astype(np.float32), group=8),
        "masked": Weight((n, k), codes[kept], scale, mask),
        "levels": Weight((n, k), pack_bits(index, 3), scale, levels=levels, bits=3),
        "masked levels": Weight((n, k), pack_bits(index[kept], 3), scale, mask, levels=levels, bits=3),
    }[form]
    for rows in (slice(0, 4), slice(3, 7), slice(7, 10)):
        np.testing.assert_array_equal(weight.rows(rows).dense(), weight.dense()[rows], strict=True)

"""Weights that a file has transposed: GPT-2's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import aerogel
from aerogel.checkpoint import open_checkpoint
from aerogel.checkpoint.safetensors_writer import SafetensorsWriter
from aerogel.errors import UnsupportedModelError
from aerogel.numbers.bf16 import narrow, widen

H, F = 8, 12
CONFIG = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    **{"n_embd": H, "n_layer": 1, "n_head": 2, "n_inner": F, "n_positions": 16, "vocab_size": 20},
}


def tensors() -> dict[str, np.ndarray]:
    shapes = {
        "wte.weight": (20, H),
        "wpe.weight": (16, H),
        "ln_f.weight": (H,),
        "ln_f.bias": (H,),
        **{f"h.0.{norm}.{kind}": (H,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")},
        "h.0.attn.c_attn.weight": (H, 3 * H),
        "h.0.attn.c_attn.bias": (3 * H,),
        "h.0.attn.c_proj.weight": (H, H),
        "h.0.attn.c_proj.bias": (H,),
        "h.0.mlp.c_fc.weight": (H, F),
        "h.0.mlp.c_fc.bias": (F,),
        "h.0.mlp.c_proj.weight": (F, H),
        "h.0.mlp.c_proj.bias": (H,),
    }
    random = np.random.default_rng(0)
    return {"transformer." + name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    save_file(tensors(), tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_families_see_them_the_right_way_round(folder: Path, kind: str) -> None:
    saved = tensors()
    if kind == "bfloat16":
        writer = SafetensorsWriter(folder / "model.safetensors")
        for name, array in saved.items():
            writer.add(name, narrow(array))
            saved[name] = widen(narrow(array))
        writer.close({"format": "pt"})
    else:
        saved = {name: array.astype(kind) for name, array in saved.items()}
        save_file(saved, folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    fused = saved["transformer.h.0.attn.c_attn.weight"].astype(np.float32)
    expected = {f"attn.{x}_proj": fused.T[i * H : (i + 1) * H] for i, x in enumerate("qkv")}
    for name in ("attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
        expected[name] = saved[f"transformer.h.0.{name}.weight"].astype(np.float32).T
    for name, values in expected.items():
        full = f"h.0.{name}.weight"
        assert checkpoint.shape(full) == values.shape
        np.testing.assert_array_equal(checkpoint.array(full), values)
        np.testing.assert_array_equal(checkpoint.weight(full).dense(), values)
        np.testing.assert_array_equal(np.concatenate(list(checkpoint.blocks(full, 5))), values)
    bias = saved["transformer.h.0.attn.c_attn.bias"].astype(np.float32)
    np.testing.assert_array_equal(checkpoint.array("h.0.attn.k_proj.bias"), bias[H : 2 * H])
    np.testing.assert_array_equal(checkpoint.array("wpe.weight"), saved["transformer.wpe.weight"].astype(np.float32))
    assert "h.0.attn.c_attn.weight" not in checkpoint


def test_masks_are_transposed_too(folder: Path) -> None:
    saved = tensors()
    name = "transformer.h.0.attn.c_attn.weight"
    values = saved.pop(name)
    mask = np.random.default_rng(1).integers(0, 2, values.shape).astype(np.float32)
    save_file(saved | {name + "_orig": values, name + "_mask": mask}, folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    expected = (values * mask).T[2 * H :]
    np.testing.assert_array_equal(checkpoint.array("h.0.attn.v_proj.weight"), expected)
    np.testing.assert_array_equal(checkpoint.weight("h.0.attn.v_proj.weight").dense(), expected)


def test_exported_they_are_as_they_were(folder: Path, tmp_path: Path) -> None:
    aerogel.export(folder, tmp_path / "plain")
    found = load_file(tmp_path / "plain" / "model.safetensors")
    expected = tensors()
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_what_old_files_have_besides(folder: Path) -> None:
    """No prefix, and the causal mask of each layer."""
    old = {name.removeprefix("transformer."): values for name, values in tensors().items()}
    old["h.0.attn.bias"] = np.tril(np.ones((1, 1, 16, 16), np.float32))
    new = aerogel.load(folder).forward([3, 4, 5])
    save_file(old, folder / "model.safetensors")
    np.testing.assert_array_equal(aerogel.load(folder).forward([3, 4, 5]), new)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("attn.c_attn", (3 * H, H), "c_attn.weight: expected rows in the proportion 1:1:1, got 8"),
        ("attn.c_attn", (3 * H,), "attention.query: expected .8, 8., got .8."),
        ("attn.c_attn", (3, H, H), "attention.query: expected .8, 8., got .1, 8, 8."),
        ("mlp.c_fc", (F, H), "ffn.up: expected .12, 8., got .8, 12."),
        ("mlp.c_fc", (F,), "ffn.up: expected .12, 8., got .12."),
    ],
)
def test_other_shapes(folder: Path, name: str, shape: tuple[int, ...], message: str) -> None:
    saved = tensors()
    saved[f"transformer.h.0.{name}.weight"] = np.zeros(shape, np.float32)
    save_file(saved, folder / "model.safetensors")
    with pytest.raises(aerogel.AerogelError, match=message):
        aerogel.load(folder)


def test_compressed_tensors_are_refused(folder: Path) -> None:
    groups = {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "int", "symmetric": True}}}
    compression = {"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": groups}
    (folder / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": compression}))
    with pytest.raises(UnsupportedModelError, match="transposed"):
        open_checkpoint(folder)

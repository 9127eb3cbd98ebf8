"""A tiny model in every form of compressed-tensors: loaded, it runs as its decoded dense model does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel
from aerogel.checkpoint import open_checkpoint

from .. import tiny_models
from ..conftest import random_ids
from ..reference import compressed_tensors as ct


def quantize(w: np.ndarray, grid: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """q and the scale of each column's group, [R, G]; `grid` [C] is the group of each column."""
    groups = grid.max() + 1
    largest = np.stack([np.abs(w[:, grid == g]).max(axis=1) for g in range(groups)], axis=1)
    scale = (largest / ((2**bits - 1) / 2)).astype(np.float32)
    bound = 2 ** (bits - 1)
    return np.clip(np.rint(w / scale[:, grid]), -bound, bound - 1).astype(np.int8), scale


def form(kind: str, name: str, w: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """The tensors of one linear, and what they mean."""
    module, one = name.removesuffix(".weight"), np.zeros(w.shape[1], int)
    if kind in ("int8", "sparse int8", "2:4 int8"):
        q, scale = quantize(w, one, 8)
        q[q == -128] = -127
        store = {"int8": lambda n, q: {n: q}, "sparse int8": ct.behind_mask, "2:4 int8": ct.two_of_four}[kind]
        return {**store(name, q), module + ".weight_scale": scale}, ct.decode(q, scale, None, "channel")
    if kind == "packed int4":
        q, scale = quantize(w, np.arange(w.shape[1]) // 16, 4)
        tensors = {
            module + ".weight_packed": ct.words_of(q, 4, stream=True),
            module + ".weight_shape": np.array(w.shape),
            module + ".weight_scale": scale,
        }
        return tensors, ct.decode(q, scale, None, "group", 16)
    if kind == "fp8":
        every = np.array([ct.e4m3(code) for code in range(127)], np.float32)
        scale = np.array([np.abs(w).max() / 448], np.float32)
        raw = np.abs(np.abs(w / scale)[:, :, None] - every).argmin(axis=2).astype(np.uint8)
        raw |= ((w < 0) * 128).astype(np.uint8)
        decoded = np.array([[ct.e4m3(code) for code in row] for row in raw], np.float32) * scale
        return {
            name: ct.Typed(raw, "F8_E4M3"),
            module + ".weight_scale": scale,
            module + ".input_scale": scale,
        }, decoded
    assert kind == "sparse"
    return ct.behind_mask(name, w), w


ARGS: dict[str, Any] = {
    "int8": {"num_bits": 8, "strategy": "channel"},
    "sparse int8": {"num_bits": 8, "strategy": "channel"},
    "2:4 int8": {"num_bits": 8, "strategy": "channel"},
    "packed int4": {"num_bits": 4, "strategy": "group", "group_size": 16},
    "fp8": {"num_bits": 8, "type": "float", "strategy": "tensor"},
    "sparse": None,
}


def pruned(w: np.ndarray, seed: int) -> np.ndarray:
    """At most two of each four columns are left."""
    rng = np.random.default_rng(seed)
    fours = w.reshape(-1, 4).copy()
    for place in (rng.integers(0, 2, len(fours)), rng.integers(2, 4, len(fours))):
        fours[np.arange(len(fours)), place] = 0
    return fours.reshape(w.shape)


@pytest.fixture(scope="module", params=list(ARGS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """(the form, the folder in that form, the same numbers as dense float32)."""
    kind, config = request.param, tiny_models.BERT
    tensors: dict[str, Any] = {}
    dense: dict[str, np.ndarray] = {}
    for seed, (name, w) in enumerate(tiny_models.bert_weights(config).items()):
        tensors["bert." + name] = dense[name] = w
        if name.startswith("encoder.") and w.ndim == 2:
            del tensors["bert." + name]
            parts, dense[name] = form(kind, "bert." + name, pruned(w, seed))
            tensors.update(parts)
    root = tmp_path_factory.mktemp(kind.replace(":", ""))
    tiny_models.write(root / "dense", config, dense)
    entry = ct.compression(ARGS[kind] and {"type": "int", "symmetric": True, **ARGS[kind]})
    tiny_models.write(root / "ct", {**config, "quantization_config": entry}, {})
    (root / "ct" / "model.safetensors").write_bytes(ct.safetensors(tensors))
    return kind, root / "ct", root / "dense"


def test_runs_as_the_decoded_model_does(pair: tuple[str, Path, Path]) -> None:
    kind, folder, dense = pair
    ids, offsets = random_ids(60, 30), [0, 4, 17, 30]
    model, expected = aerogel.load(folder), aerogel.load(dense).forward(ids, offsets)
    got = model.forward(ids, offsets)
    if "int8" in kind:  # inputs are quantized too: of the same order as the dense model's own int8
        assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()
    else:
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    formats = {f["format"] for step in model.describe() for f in step.get("forms", ())}
    assert all("q8" in name for name in formats) == ("int8" in kind), formats
    sparsity = [1 - s["nonzeros"] / np.prod(s["shape"]) for s in model.describe() if "forms" in s]
    assert min(sparsity) >= 0.5


def test_compress_keeps_its_zeros(pair: tuple[str, Path, Path], tmp_path: Path) -> None:
    kind, folder, dense = pair
    reports = [aerogel.compress(source, tmp_path / source.name, sparsity=0, quant="none") for source in pair[1:]]
    assert reports[0].sparsity == reports[1].sparsity >= 0.5
    a, b = (open_checkpoint(tmp_path / source.name) for source in pair[1:])
    assert a.names() == b.names()
    for name in a.names():
        np.testing.assert_array_equal(a.array(name), b.array(name), strict=True)
    assert "quantization_config" not in open_checkpoint(folder).config
    config = open_checkpoint(tmp_path / folder.name).config
    assert config["quantization_config"]["quant_method"] == "aerogel" and "compression_config" not in config


def test_compresses_to_int8(pair: tuple[str, Path, Path], tmp_path: Path) -> None:
    _, folder, _ = pair
    aerogel.compress(folder, tmp_path / "packed", sparsity=0)
    name = "encoder.layer.0.output.dense.weight"
    before, after = (open_checkpoint(path).weight(name) for path in (folder, tmp_path / "packed"))
    np.testing.assert_allclose(after.dense(), before.dense(), rtol=0, atol=np.abs(before.dense()).max() / 200)


def test_dense_files_full_of_zeros_are_sparse(tmp_path: Path) -> None:
    config, weights = tiny_models.BERT, tiny_models.bert_weights(tiny_models.BERT)
    for seed, (name, w) in enumerate(weights.items()):
        if name.startswith("encoder.") and w.ndim == 2:
            weights[name] = pruned(w, seed)
    # What is saved today: dense, and a config that says how many zeros there are, or nothing.
    said = {"quant_method": "compressed-tensors", "format": "dense", "sparsity_config": {"format": "dense"}}
    for extra in ({}, {"quantization_config": said}):
        folder = tiny_models.write(tmp_path / str(len(extra)), {**config, **extra}, weights)
        for step in aerogel.load(folder).describe():
            if "forms" in step:
                assert 1 - step["nonzeros"] / np.prod(step["shape"]) >= 0.5
        assert aerogel.compress(folder, tmp_path / f"out{len(extra)}", sparsity=0).sparsity >= 0.5

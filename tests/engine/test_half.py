"""float16 and bf16 checkpoints: half the memory, and what float32 ones of the same weights give, bit for bit."""

import logging
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import aerogel
from aerogel._core import WeightSource, pack
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import DataError, ShapeError
from aerogel.numbers.bf16 import narrow, widen

from ..checkpoint.tiny_files import tensor_bytes
from ..conftest import random_ids


def pair(source, work, kind, but=()):
    """The model with its tensors in this type, and with the same numbers in float32."""
    half, full = (shutil.copytree(source, work / name) for name in ("half", "full"))
    given = {name: w for name, w in load_file(source / "model.safetensors").items()}
    if kind == "bf16":
        codes = {name: narrow(w) for name, w in given.items() if name not in but}
        (half / "model.safetensors").write_bytes(tensor_bytes({**given, **codes}, tuple(codes)))
        widened = {name: widen(code) for name, code in codes.items()}
    else:
        codes = {name: w.astype(np.float16) for name, w in given.items() if name not in but}
        save_file({**given, **codes}, half / "model.safetensors")
        widened = {name: code.astype(np.float32) for name, code in codes.items()}
    save_file({**given, **widened}, full / "model.safetensors")
    return half, full


@pytest.mark.parametrize("kind", ["float16", "bf16"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_exactly_as_float32_in_half_the_memory(family, kind, bert_folder, llama_folder, tmp_path):
    half, full = map(aerogel.load, pair(bert_folder if family == "bert" else llama_folder, tmp_path, kind))
    forms = {form["format"] for step in half.describe() for form in step.get("forms", ())}
    assert forms == {"dense_f16" if kind == "float16" else "dense_bf16"} and half.quantization == kind
    assert half.nbytes * 2 == full.nbytes
    for lengths in ((1,), (3, 1, 2), (40, 30, 7), (40,) * 12):
        ids = [random_ids(half.vocab_size, n, seed=n) for n in lengths]
        assert np.array_equal(half.forward(ids), full.forward(ids))


def test_a_stack_of_several_types_is_float32(bert_folder, tmp_path, caplog):
    but = ("encoder.layer.0.attention.self.key.weight",)
    with caplog.at_level(logging.INFO, "aerogel"):
        half, full = map(aerogel.load, pair(bert_folder, tmp_path, "float16", but))
    assert "parts of several types are stacked, so all of them run as float32" in caplog.text
    assert half.quantization == "mixed"
    ids = [random_ids(half.vocab_size, 9)]
    assert np.array_equal(half.forward(ids), full.forward(ids))


def test_zeros_of_float16(llama_folder, tmp_path):
    """Sparse enough to be skipped: as float32."""
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    weights = {name: w.astype(np.float16) for name, w in load_file(folder / "model.safetensors").items()}
    for name, w in weights.items():
        if name.endswith("down_proj.weight"):
            w[np.random.default_rng(0).random(w.shape) < 0.9] = 0
    save_file(weights, folder / "model.safetensors")
    model = aerogel.load(folder)
    formats = {step["name"]: step["forms"][0]["format"] for step in model.describe() if "forms" in step}
    assert formats["layers.0.ffn.down"] == "csr_f32" and formats["layers.0.ffn.gate_up"] == "dense_f16"


@pytest.mark.parametrize("quant", ["int8", "none"])
def test_compressed_as_float32(quant, bert_folder, tmp_path):
    half, full = pair(bert_folder, tmp_path, "float16")
    for name, folder in (("a", half), ("b", full)):
        aerogel.compress(folder, tmp_path / name, 0.3, quant=quant, method="magnitude")
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_a_weight_of_float16(bert_folder, tmp_path):
    half, full = map(open_checkpoint, pair(bert_folder, tmp_path, "float16"))
    name = "encoder.layer.0.output.dense.weight"
    weight = half.weight(name)
    assert weight.values.dtype == np.float16 and weight.numbers == "float16" and weight.nbytes == 2 * 48 * 100
    assert weight.dense().dtype == np.float32 and np.array_equal(weight.dense(), full.weight(name).dense())


def test_what_is_not_finite_is_named(bert_folder, tmp_path):
    half, _ = pair(bert_folder, tmp_path, "float16")
    weights = load_file(half / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][3, 4] = np.inf
    save_file(weights, half / "model.safetensors")
    with pytest.raises(DataError, match=r"word_embeddings.*expected finite values, got 1 of "):
        aerogel.load(half)


def test_arrays_of_float16_that_cannot_be_packed():
    source = WeightSource(4)
    with pytest.raises(ShapeError, match="contiguous"):
        source.add_dense("w", np.ones((4, 3), np.float16).T)
    with pytest.raises(DataError, match="float16 values take no scale"):
        source.add_dense_q8("w", np.ones((3, 4), np.float16), np.ones(3, np.float32))
    source.add_dense("w", np.arange(12, dtype=np.float16).reshape(3, 4))
    assert source.numbers == "float16" and source.holds("dense_f16") and source.holds("csr_f32")
    assert pack(source).row(2).tolist() == [8, 9, 10, 11]

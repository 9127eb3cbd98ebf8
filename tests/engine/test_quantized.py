"""load(quant=): what `compress` and `load` give, with no file between and little more memory than the result."""

import logging
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import aerogel
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import DataError, RecipeError

from .. import tiny_models
from ..conftest import random_ids

SCHEMES = ["int8", "int8:g32", "int4", "int4:g32:asym", "codebook:16", "codebook:20", "bf16", "none"]


def same(a, b):
    """Two models with the same packed weights, which give the same bits."""
    packed = [step["name"] for step in a.describe() if "forms" in step]
    for one, two in zip(a.describe(), b.describe(), strict=True):
        assert one == two
    for name in dict.fromkeys(packed):
        one, two = a.packed_weight(name), b.packed_weight(name)
        assert one.forms == two.forms
        assert all(np.array_equal(one.row(i), two.row(i)) for i in range(one.shape[0]))
    ids = [random_ids(a.vocab_size, n, seed=n) for n in (1, 9, 20)]
    assert np.array_equal(a.forward(ids), b.forward(ids))
    assert a.nbytes == b.nbytes and a.quantization == b.quantization


@pytest.mark.parametrize("quant", SCHEMES)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_it_is_what_compress_writes(family, quant, bert_folder, llama_folder, tmp_path):
    folder = bert_folder if family == "bert" else llama_folder
    aerogel.compress(folder, tmp_path / "packed", quant=quant)
    same(aerogel.load(folder, quant=quant), aerogel.load(tmp_path / "packed"))


@pytest.mark.parametrize("quant", ["int4:g32", "int8"])
def test_zeros_stay_zeros_and_blocks_do_not_show(quant, tmp_path, monkeypatch):
    from aerogel.engine import weights as engine_weights
    from aerogel.quantize import grid

    # By the nonzeros of what is stored, here floats and there codes: where hidden units are sorted the orders may differ.
    monkeypatch.setattr(engine_weights, "sorting_gains", lambda format: False)
    config = {**tiny_models.LLAMA, "tie_word_embeddings": False}
    weights = tiny_models.llama_weights(config)
    for name, w in weights.items():
        if name.endswith("proj.weight"):
            w[np.random.default_rng(1).random(w.shape) < 0.8] = 0
    folder = tiny_models.write(tmp_path / "model", config, weights, prefix="model.")
    aerogel.compress(folder, tmp_path / "packed", quant=quant)
    monkeypatch.setattr(grid, "BLOCK", 400)  # a few rows
    same(aerogel.load(folder, quant=quant), aerogel.load(tmp_path / "packed"))


def test_while_kernels_are_measured(bert_folder, tmp_path, monkeypatch):
    """4 bits have formats to choose from: what was rounded is held until they are measured."""
    aerogel.compress(bert_folder, tmp_path / "packed", quant="int4:g32")
    monkeypatch.setenv("AEROGEL_TUNE", "on")
    monkeypatch.setenv("AEROGEL_CACHE", str(tmp_path / "cache"))
    same(aerogel.load(bert_folder, quant="int4:g32"), aerogel.load(tmp_path / "packed"))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_of_other_floats(dtype, llama_folder, tmp_path):
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    file = folder / "model.safetensors"
    save_file({name: w.astype(dtype) for name, w in load_file(file).items()}, file)
    aerogel.compress(folder, tmp_path / "packed", quant="int4:g32")
    same(aerogel.load(folder, quant="int4:g32"), aerogel.load(tmp_path / "packed"))


def test_of_a_gguf(tmp_path):
    from ..checkpoint.gguf import files

    file = files.write_model(tmp_path / "model.gguf", "llama")
    aerogel.compress(file, tmp_path / "packed", quant="int4:g32")
    same(aerogel.load(file, quant="int4:g32"), aerogel.load(tmp_path / "packed"))


def test_names_are_those_of_recipes(bert_folder):
    assert aerogel.load(bert_folder, quant="int4").quantization == "int4:g32:asym"
    with pytest.raises(RecipeError, match="'int3' is unknown, only int8, int4"):
        aerogel.load(bert_folder, quant="int3")
    with pytest.raises(RecipeError, match="expected text|expected a text|str"):
        aerogel.load(bert_folder, quant=8)


def test_a_packed_model_is_refused(bert_folder, tmp_path):
    aerogel.compress(bert_folder, tmp_path / "packed")
    with pytest.raises(RecipeError, match=r"packed.*leave quant out, or compress the original model anew"):
        aerogel.load(tmp_path / "packed", quant="int4")
    aerogel.load(tmp_path / "packed", quant="none")


def test_what_is_not_finite_is_named(bert_folder, tmp_path):
    folder = shutil.copytree(bert_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][3, 4] = np.nan
    save_file(weights, folder / "model.safetensors")
    for quant in ("int8", "codebook:16"):
        with pytest.raises(DataError, match=r"encoder\.layer\.1\.output\.dense\.weight.* 1 of "):
            aerogel.load(folder, quant=quant)


def test_a_copy_is_quantized_too(bert_folder):
    model = aerogel.load(bert_folder, quant="int8")
    again = pickle.loads(pickle.dumps(model))
    assert again.quantization == "int8" and "; int8, " in repr(again)
    same(model, again)


def test_the_log_says_what_int8_saves(bert_folder, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "aerogel"):
        exact = aerogel.load(bert_folder)
        (line,) = [r.getMessage() for r in caplog.records if "--quant" in r.getMessage()]
        assert f"float32 weights as they are, {exact.nbytes / 1e6:.1f} MB; quant='int8' (--quant int8) takes " in line
        saved = exact.nbytes - aerogel.load(bert_folder, quant="int8").nbytes
        assert f"takes {saved / 1e6:.1f} MB less" in line
        caplog.clear()
        aerogel.compress(bert_folder, tmp_path / "packed")
        for path, quant in ((bert_folder, "none"), (bert_folder, "int4"), (tmp_path / "packed", None)):
            aerogel.load(path, quant=quant)
        assert not [r for r in caplog.records if "--quant" in r.getMessage()]
    assert exact.quantization == "float32" and "; float32, " in repr(exact)


#: Loads a model and prints the bytes that this took at most, and the bytes of the model.
PEAK = """
import sys, aerogel
def kept(word):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(word))
aerogel.load(sys.argv[1], threads=2, quant="int8").forward([[1, 2, 3]])  # a tiny one: what is made once is there
before = kept("VmRSS")
model = aerogel.load(sys.argv[2], threads=2, quant=sys.argv[3] or None)
print(kept("VmHWM") - before, model.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize(
    "quant, dtype", [("int8", np.float32), ("int4:g64", np.float16), ("codebook:16", np.float16), ("", np.float16)]
)
def test_memory_while_it_loads(quant, dtype, bert_folder, tmp_path):
    """The peak is little above the result, also where embeddings are most of the model."""
    config, larger = tiny_models.BERT, {"hidden_size": 384, "intermediate_size": 1536, "vocab_size": 30000}
    width = {config[key]: size for key, size in larger.items()}
    random = np.random.default_rng(0).standard_normal(1 << 20, np.float32).astype(dtype)
    weights = {
        name: np.resize(random, [width.get(n, n) for n in w.shape])
        for name, w in tiny_models.bert_weights(config).items()
    }
    config = {**config, **larger}
    folder = tiny_models.write(tmp_path / "model", config, weights, tokenizer=False)
    run = [sys.executable, "-c", PEAK, str(bert_folder), str(folder), quant]
    peak, size = map(int, subprocess.run(run, check=True, capture_output=True, text=True).stdout.split())
    assert peak <= (1.3 if quant else 1.2) * size


def test_a_tied_head_is_read_once(llama_folder, monkeypatch):
    from aerogel.checkpoint.safetensors import SafetensorsCheckpoint

    asked = []
    blocks = SafetensorsCheckpoint.blocks
    monkeypatch.setattr(
        SafetensorsCheckpoint, "blocks", lambda self, name, n: asked.append(name) or blocks(self, name, n)
    )
    aerogel.load(llama_folder, quant="int8")
    assert sorted(asked) == sorted(set(asked)) and "embed_tokens.weight" in asked


def test_blocks_are_the_matrix(llama_folder, tmp_path):
    aerogel.compress(llama_folder, tmp_path / "packed", quant="bf16")  # with checksums: read as a whole
    for path in (llama_folder, tmp_path / "packed"):
        checkpoint = open_checkpoint(path)
        for name in ("embed_tokens.weight", "layers.0.mlp.down_proj.weight"):
            blocks = list(checkpoint.blocks(name, 7))
            assert {len(block) for block in blocks[:-1]} == {7} and blocks[0].dtype == np.float32
            assert np.array_equal(np.concatenate(blocks), checkpoint.weight(name).dense())

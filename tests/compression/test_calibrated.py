import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import aerogel
from aerogel.checkpoint import open_checkpoint
from aerogel.compression.recipe import Calibration, Fold, Prune, Quantize, Recipe
from aerogel.errors import DataError, RecipeError

from .. import tiny_models
from ..conftest import random_ids
from ..tiny_models import WORDS


@pytest.fixture
def texts(tmp_path):
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, rng.integers(3, 20))) for _ in range(60)]
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(lines))
    return file


def digest(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def distance(folder, dense, ids):
    """Mean squared difference of hidden states."""
    return float(np.mean((aerogel.load(folder).forward(ids, output="hidden") - dense) ** 2))


@pytest.mark.parametrize("model", ["bert_folder", "llama_folder"])
@pytest.mark.parametrize("method", ["wanda", "obs", "admm"])
def test_calibrated_methods_keep_what_was_asked(model, method, request, texts, tmp_path):
    source = request.getfixturevalue(model)
    report = aerogel.compress(source, tmp_path / "out", 0.6, quant="none", method=method, calibrate=texts)
    packed = open_checkpoint(tmp_path / "out")
    for tensor in report.linears:
        w = packed.array(tensor.name)
        assert 1 - np.count_nonzero(w) / w.size == pytest.approx(0.6, abs=0.02), tensor.name
        assert tensor.output_error is not None and 0 < tensor.output_error < 1.5
    assert report.recipe["prune"]["method"] == method
    assert set(report.sources) == {"aerogel", "numpy", str(texts)}
    assert report.sources[str(texts)] == "sha256:" + hashlib.sha256(texts.read_bytes()).hexdigest()


@pytest.mark.parametrize("model", ["bert_folder", "llama_folder"])
def test_fitting_to_texts_is_nearer_to_the_dense_model(model, request, texts, tmp_path):
    source = request.getfixturevalue(model)
    checkpoint = open_checkpoint(source)
    ids = checkpoint.tokenizer().encode(texts.read_text().split("\n")[:20])
    dense = aerogel.load(source).forward(ids, output="hidden")
    errors = {}
    for method in ("magnitude", "wanda", "obs", "admm"):
        calibrate = None if method == "magnitude" else texts
        aerogel.compress(source, tmp_path / method, 0.5, method=method, calibrate=calibrate)
        errors[method] = distance(tmp_path / method, dense, ids)
    assert errors["admm"] < errors["magnitude"] and errors["obs"] < errors["magnitude"]


def test_the_default_method_depends_on_the_texts(bert_folder, texts, tmp_path):
    report = aerogel.compress(bert_folder, tmp_path / "b", 0.5, calibrate=texts)
    assert report.recipe["prune"]["method"] == "admm"
    silent = shutil.copytree(bert_folder, tmp_path / "silent")
    for name in ("tokenizer.json", "vocab.txt"):  # a model that reads no text
        (silent / name).unlink(missing_ok=True)
    assert aerogel.compress(silent, tmp_path / "a", 0.5).recipe["prune"]["method"] == "magnitude"
    with pytest.raises(RecipeError, match="60% sparsity without calibration texts"):
        aerogel.compress(silent, tmp_path / "no", 0.6)
    with pytest.raises(RecipeError, match="prune.budget: owl needs calibration texts"):
        aerogel.compress(silent, tmp_path / "no", 0.5, budget="owl")


@pytest.mark.parametrize("pattern", ["8:64", "2:4", "1x4", "2x1", "4x1", "8:64x4"])
def test_patterns(bert_folder, texts, tmp_path, pattern):
    for method in ("wanda", "obs", "admm"):
        sparsity = None if ":" in pattern else 0.8
        report = aerogel.compress(
            bert_folder, tmp_path / method, sparsity, pattern=pattern, method=method, calibrate=texts
        )
        assert report.sparsity == pytest.approx({"8:64": 0.86, "8:64x4": 0.86, "2:4": 0.5}.get(pattern, 0.8), abs=0.03)
        assert np.isfinite(aerogel.load(tmp_path / method).forward(random_ids(60, 9))).all()


def test_errors_are_weighed_unless_it_is_a_language_model(bert_folder, llama_folder, texts, tmp_path):
    for model, usual in ((bert_folder, True), (llama_folder, False)):
        made = {}
        for weigh in (None, True, False):
            recipe = Recipe(calibration=Calibration((str(texts),), samples=20), prune=Prune(sparsity=0.7, weigh=weigh))
            out = tmp_path / f"{model.name}-{weigh}"
            aerogel.compress(model, out, recipe=recipe)
            made[weigh] = digest(out)
        assert made[None] == made[usual] != made[not usual]


def test_zeros_stay_zeros(bert_folder, texts, tmp_path):
    aerogel.compress(bert_folder, tmp_path / "half", 0.5, quant="none", method="magnitude")
    aerogel.compress(tmp_path / "half", tmp_path / "more", 0.7, quant="none", calibrate=texts)
    half, more = open_checkpoint(tmp_path / "half"), open_checkpoint(tmp_path / "more")
    for name in half.names():
        if half.weight(name).mask is not None if len(half.shape(name)) == 2 else False:
            assert not (more.array(name)[half.array(name) == 0] != 0).any(), name


def test_the_same_recipe_gives_the_same_bytes(bert_folder, texts, tmp_path):
    recipe = Recipe(
        calibration=Calibration((str(texts),), samples=20),
        prune=Prune(sparsity=0.7),
        quantize=Quantize("int4:g32"),
        seed=5,
    )
    first = aerogel.compress(bert_folder, tmp_path / "1", recipe=recipe, threads=1)
    (tmp_path / "r.yaml").write_text(Recipe.of(first.recipe).as_yaml())
    aerogel.compress(bert_folder, tmp_path / "2", recipe=tmp_path / "r.yaml", threads=2)
    assert digest(tmp_path / "1") == digest(tmp_path / "2")
    code = "import sys, aerogel; aerogel.compress(sys.argv[1], sys.argv[2], recipe=sys.argv[3])"
    command = [sys.executable, "-c", code, str(bert_folder), str(tmp_path / "3"), str(tmp_path / "r.yaml")]
    subprocess.run(command, check=True, env={**os.environ, "AEROGEL_ISA": "scalar"})
    assert digest(tmp_path / "1") == digest(tmp_path / "3")
    aerogel.compress(bert_folder, tmp_path / "4", recipe=dataclasses.replace(recipe, seed=6))
    assert digest(tmp_path / "1") != digest(tmp_path / "4")


@pytest.mark.parametrize("quant", ["none", "int8", "bf16", "int4:g32"])
@pytest.mark.parametrize("model", ["bert_folder", "llama_folder"])
def test_folding_changes_nothing_but_the_rounding(model, quant, request, texts, tmp_path):
    source = request.getfixturevalue(model)
    recipe = Recipe(
        calibration=Calibration((str(texts),)), prune=Prune(sparsity=0.0), fold=Fold(0.5), quantize=Quantize(quant)
    )
    report = aerogel.compress(source, tmp_path / "out", recipe=recipe)
    ids = [random_ids(19, n, n) for n in (5, 11)]
    dense = aerogel.load(source).forward(ids, output="hidden")
    got = aerogel.load(tmp_path / "out").forward(ids, output="hidden")
    bound = {"none": 1e-3, "bf16": 0.1, "int8": 0.3, "int4:g32": 1.5}[quant]
    assert np.abs(got - dense).max() <= bound * np.abs(dense).max()
    folded = [t.name for t in report.tensors if t.role == "kept"]
    changed = [
        name
        for name in folded
        if not np.array_equal(open_checkpoint(tmp_path / "out").array(name), open_checkpoint(source).array(name))
    ]
    if "bert" in model:  # rounding with compensation changes every bias
        assert set(changed) >= {n for n in folded if "value.bias" in n}
        assert quant.startswith("int4") or all("value.bias" in n for n in changed)
    else:
        assert changed == [n for n in folded if "layernorm" in n]
    terms = {
        step["terms"]
        for step in aerogel.load(tmp_path / "out").describe()
        if "terms" in step and "layers" in step["name"]
    }
    assert terms == {1}


def test_folding_into_norms_that_add_one(texts, tmp_path):
    """What is stored is w, what multiplies is 1 + w, and what is divided is that."""
    config = {**tiny_models.LLAMA, "model_type": "gemma", "architectures": ["GemmaForCausalLM"], "head_dim": 8}
    config |= {"hidden_act": "gelu_pytorch_tanh"}
    source = tiny_models.write(tmp_path / "m", config, tiny_models.llama_weights(config))
    recipe = Recipe(calibration=Calibration((str(texts),)), prune=Prune(sparsity=0.0), fold=Fold(0.7))
    recipe = dataclasses.replace(recipe, quantize=Quantize("none"))
    aerogel.compress(source, tmp_path / "out", recipe=recipe)
    ids = [random_ids(19, n, n) for n in (5, 11)]
    dense, got = (aerogel.load(path).forward(ids) for path in (source, tmp_path / "out"))
    np.testing.assert_allclose(got, dense, atol=1e-4 * np.abs(dense).max())
    for name in ("input_layernorm", "post_attention_layernorm"):
        before, after = (open_checkpoint(p).array(f"layers.0.{name}.weight") for p in (source, tmp_path / "out"))
        assert np.abs(before - after).max() > 0.01


def test_heads_share_their_scale_where_they_share_their_values(llama_folder):
    from aerogel.architectures import architecture_of
    from aerogel.calibrate import Statistics
    from aerogel.compression.fold import scale_of

    architecture = architecture_of(open_checkpoint(llama_folder))
    fold = next(f for f in architecture.folds() if "o_proj" in f.readers[0])
    n, k = open_checkpoint(llama_folder).shape(fold.readers[0])
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((50, k), np.float32), rng.standard_normal((n, k), np.float32)
    s = scale_of(fold, [w], Statistics.of(x), 0.5)
    assert s.shape == (open_checkpoint(llama_folder).shape(fold.makers[0])[0],)
    for j, value in enumerate(s):
        at = fold.columns == j
        assert value == pytest.approx(np.sqrt(np.abs(x[:, at]).max() / np.abs(w[:, at]).max()), rel=1e-5)


def test_structure_comes_first(bert_folder, texts, tmp_path):
    recipe = {"structure": {"ffn": 0.5, "heads": 2, "multiple": 4}, "prune": {"sparsity": 0.5}}
    report = aerogel.compress(bert_folder, tmp_path / "out", recipe=recipe, calibrate=texts)
    shapes = {t.name: t.shape for t in report.tensors}
    assert shapes["encoder.layer.0.intermediate.dense.weight"][0] in (48, 52)
    assert shapes["encoder.layer.0.attention.self.query.weight"][0] == 24
    assert report.sparsity == pytest.approx(0.5, abs=0.02)
    assert np.isfinite(aerogel.load(tmp_path / "out").forward(random_ids(60, 9))).all()


def test_thresholds(bert_folder, tmp_path):
    source = open_checkpoint(bert_folder)
    aerogel.compress(bert_folder, tmp_path / "out", quant="none", recipe={"prune": {"threshold": 0.03}})
    packed = open_checkpoint(tmp_path / "out")
    name = "encoder.layer.0.output.dense.weight"
    w = source.array(name)
    assert np.array_equal(packed.array(name), np.where(np.abs(w) < np.float32(0.03), 0, w))


def test_layers_of_their_own(bert_folder, tmp_path):
    layers = {"layers.0.*": 0.25, "*.ffn.down": 0.0}
    report = aerogel.compress(
        bert_folder, tmp_path / "out", 0.5, quant="none", method="magnitude", recipe={"prune": {"layers": layers}}
    )
    for tensor in report.linears:
        down = "output.dense" in tensor.name and "attention" not in tensor.name
        expected = 0.0 if down else 0.25 if "layer.0" in tensor.name else 0.5
        assert tensor.sparsity == pytest.approx(expected, abs=0.01), tensor.name
    with pytest.raises(RecipeError, match=r"'layers.9.\*' fits no layer; layers are called layers.0"):
        aerogel.compress(
            bert_folder, tmp_path / "no", 0.5, method="magnitude", recipe={"prune": {"layers": {"layers.9.*": 0.1}}}
        )


@pytest.mark.parametrize("budget", ["global", "owl", "sensitivity"])
def test_budgets(bert_folder, texts, tmp_path, budget):
    report = aerogel.compress(bert_folder, tmp_path / "out", 0.6, quant="none", budget=budget, calibrate=texts)
    assert report.sparsity == pytest.approx(0.6, abs=0.005)
    assert len({round(t.sparsity, 3) for t in report.linears}) > 1


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"prune": {"method": "taylor", "sparsity": 0.5}}, "taylor needs gradients"),
        ({"prune": {"budget": "fair", "sparsity": 0.5}}, "expected one of .*, got 'fair'"),
        ({"prune": {"budget": "global", "method": "magnitude", "pattern": "8:64"}}, "8:64"),
        ({"prune": {"steps": 3, "threshold": 0.1}}, "not with a threshold"),
    ],
)
def test_contradictions(bert_folder, tmp_path, recipe, message):
    with pytest.raises(RecipeError, match=message):
        aerogel.compress(bert_folder, tmp_path / "out", recipe=recipe)
    assert not (tmp_path / "out").exists()


def test_a_missing_text_is_said_before_anything_is_written(bert_folder, tmp_path):
    with pytest.raises(DataError, match=r"nothing\.txt"):
        aerogel.compress(bert_folder, tmp_path / "out", 0.5, calibrate=tmp_path / "nothing.txt")
    assert not (tmp_path / "out").exists()


def test_compensated_rounding_is_nearer(bert_folder, texts, tmp_path):
    checkpoint = open_checkpoint(bert_folder)
    ids = checkpoint.tokenizer().encode(texts.read_text().split("\n"))
    dense = aerogel.load(bert_folder).forward(ids, output="hidden")
    errors = {}
    for rounding in ("nearest", "compensated"):
        recipe = {
            "prune": {"sparsity": 0},
            "quantize": {"weights": "int4:g32", "rounding": rounding, "embeddings": "none"},
        }
        aerogel.compress(bert_folder, tmp_path / rounding, recipe=recipe, calibrate=texts)
        errors[rounding] = distance(tmp_path / rounding, dense, ids)
    assert errors["compensated"] < errors["nearest"]

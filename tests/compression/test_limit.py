import dataclasses
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import aerogel
from aerogel.architectures import architecture_of
from aerogel.calibrate import Stack, Visitor, walk
from aerogel.checkpoint import open_checkpoint
from aerogel.compression.limit import limit_of
from aerogel.compression.recipe import Calibration, Fold, Prune, Quantize, Recipe
from aerogel.errors import CheckpointError, DataError
from aerogel.exporting import export

from ..tiny_models import WORDS


@pytest.fixture
def texts(tmp_path):
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, rng.integers(3, 20))) for _ in range(60)]
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(lines))
    return file


def recipe_of(texts, quant="int8", **more):
    return Recipe(
        calibration=Calibration((str(texts),)),
        prune=Prune(sparsity=0.0),
        quantize=Quantize(quant, activations="static"),
        **more,
    )


def mean_squared_error(x, limit):
    codes = np.clip(np.rint(x * (127 / limit)), -127, 127)
    return float(np.mean((x - codes * (limit / 127)) ** 2))


@pytest.mark.parametrize("draw", ["normal", "uniform", "outlier", "mostly zero"])
def test_no_limit_is_much_better(draw):
    rng = np.random.default_rng(3)
    x = rng.uniform(-3, 3, (700, 60)) if draw == "uniform" else rng.standard_normal((700, 60))
    if draw == "outlier":
        x[:, 7] *= 40
    if draw == "mostly zero":
        x *= rng.random(x.shape) < 0.05
    x = x.astype(np.float32)
    limit = limit_of(lambda: [x])
    largest = float(np.abs(x).max())
    assert 0 < limit <= largest * (1 + 1e-6)
    best = min(mean_squared_error(x, largest * part) for part in np.linspace(0.01, 1, 400))
    assert mean_squared_error(x, limit) <= 1.02 * best
    assert limit_of(lambda: [x[:300], x[300:]]) == limit
    # also of x / s, and never of less than it was scaled by
    s = rng.uniform(0.5, 2, 60).astype(np.float32)
    assert limit_of(lambda: [x], s) == pytest.approx(limit_of(lambda: [x / s]), rel=1e-6)
    assert limit_of(lambda: [x * np.float32(4)]) == pytest.approx(4 * limit, rel=1e-6)


def test_of_many_inputs_evenly_spaced_rows_are_looked_at(monkeypatch):
    from aerogel.compression import limit

    x = np.random.default_rng(3).standard_normal((700, 60)).astype(np.float32)
    x[::50] *= 30  # the first token of each text
    monkeypatch.setattr(limit, "MOST_ELEMENTS", 60 * 100)
    whole = limit_of(lambda: [x])
    for size in (50, 64, 7):  # wherever blocks begin
        blocks = [x[i : i + size] for i in range(0, 700, size)]
        assert limit_of(lambda blocks=blocks: blocks) == whole


def test_inputs_that_are_all_zero_have_no_limit():
    assert limit_of(lambda: [np.zeros((5, 8), np.float32)]) is None
    assert limit_of(lambda: [np.full((5, 8), 1e-38, np.float32)]) is None


def linears(folder):
    return [step for step in aerogel.load(folder).describe() if step["op"] == "linear"]


def texts_as_ids(source, texts):
    return open_checkpoint(source).tokenizer().encode(texts.read_text().split("\n"))


@pytest.mark.parametrize("quant", ["int8", "int4:g32", "none", "int8:g64"])
@pytest.mark.parametrize("model", ["bert_folder", "llama_folder"])
def test_every_integer_linear_has_a_limit(model, quant, request, texts, tmp_path):
    source = request.getfixturevalue(model)
    aerogel.compress(source, tmp_path / "out", recipe=recipe_of(texts, quant))
    packed = open_checkpoint(tmp_path / "out")
    for step in linears(tmp_path / "out"):
        assert (step["limit"] > 0) == (step["numbers"] == "int8"), step["name"]
        assert step["terms"] == 1 or step["numbers"] != "int8"
    for stack in architecture_of(packed).stacks():
        limits = {packed.input_limit(name) for name in stack}
        assert len(limits) == 1, stack
    made = [step for step in aerogel.load(tmp_path / "out").describe() if step["op"] == "quantize"]
    if quant in ("int8", "int4:g32"):
        assert made and all(step["limit"] > 0 for step in made)
    got = aerogel.load(tmp_path / "out").forward(texts_as_ids(source, texts)[:5], output="hidden")
    dense = aerogel.load(source).forward(texts_as_ids(source, texts)[:5], output="hidden")
    assert np.isfinite(got).all()
    bound = {"int8": 0.2, "int4:g32": 1.5, "none": 1e-3, "int8:g64": 0.2}[quant]
    assert np.abs(got - dense).max() <= bound * np.abs(dense).max()


class Seeing(Visitor):
    """The dense model's inputs, by the first name of each stack."""

    streams = 1

    def __init__(self, checkpoint):
        self.checkpoint, self.seen = checkpoint, {}

    def visit(self, stack: Stack, inputs):
        self.seen[stack.names] = np.concatenate([seen.x[0] for seen in inputs])
        return [[self.checkpoint.weight(name).dense() for name in stack.names]]


@pytest.mark.parametrize("model", ["bert_folder", "llama_folder"])
def test_limits_of_folded_inputs_are_of_what_is_left(model, request, texts, tmp_path):
    source = request.getfixturevalue(model)
    aerogel.compress(source, tmp_path / "out", recipe=recipe_of(texts, fold=Fold(0.5)))
    packed = open_checkpoint(tmp_path / "out")
    architecture = architecture_of(packed)
    seeing = Seeing(packed)
    ids = texts_as_ids(source, texts)
    walk(architecture, packed, ids, seeing)  # the folded model's own inputs
    folded = [fold.readers for fold in architecture.folds()]
    assert folded
    for names in folded:
        largest = float(np.abs(seeing.seen[names]).max())
        assert 0.2 * largest < packed.input_limit(names[0]) < 1.1 * largest, names


def test_dynamic_models_have_none(bert_folder, texts, tmp_path):
    recipe = recipe_of(texts)
    aerogel.compress(bert_folder, tmp_path / "static", recipe=recipe)
    dynamic = dataclasses.replace(recipe, quantize=Quantize("int8"))
    for name, source in (("dynamic", bert_folder), ("again", tmp_path / "static")):
        aerogel.compress(source, tmp_path / name, recipe=dynamic)
        assert not any("input_limit" in key for key in load_file(tmp_path / name / "model.safetensors"))
        assert not any(step["limit"] for step in linears(tmp_path / name))


def test_the_same_for_any_number_of_threads(bert_folder, texts, tmp_path):
    aerogel.compress(bert_folder, tmp_path / "1", recipe=recipe_of(texts), threads=1)
    aerogel.compress(bert_folder, tmp_path / "2", recipe=recipe_of(texts), threads=2)
    assert (tmp_path / "1/model.safetensors").read_bytes() == (tmp_path / "2/model.safetensors").read_bytes()


def test_export_drops_them(bert_folder, texts, tmp_path):
    aerogel.compress(bert_folder, tmp_path / "static", recipe=recipe_of(texts))
    export(tmp_path / "static", tmp_path / "plain")
    assert not any("input_limit" in key for key in load_file(tmp_path / "plain" / "model.safetensors"))
    json.loads((tmp_path / "plain" / "config.json").read_text())
    assert not any(step["limit"] for step in linears(tmp_path / "plain"))


NAME = "encoder.layer.0.output.dense.weight"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {NAME + "_input_limit": np.array([np.nan], np.float32)},
            DataError,
            "positive number of ordinary size, got nan",
        ),
        ({NAME + "_input_limit": np.array([np.inf], np.float32)}, DataError, "got inf"),
        ({NAME + "_input_limit": np.array([0], np.float32)}, DataError, "got 0"),
        ({NAME + "_input_limit": np.array([-1], np.float32)}, DataError, "got -1"),
        ({NAME + "_input_limit": np.array([1e-38], np.float32)}, DataError, "got 1e-38|got 9.99"),
        ({NAME + "_input_limit": np.array([1, 1], np.float32)}, CheckpointError, r"expected F32 \[1\], got F32 \[2\]"),
        ({NAME + "_input_limit": np.array([1], np.float64)}, CheckpointError, "F64"),
        ({"nothing_input_limit": np.array([1], np.float32)}, CheckpointError, "parts without their parameter: nothing"),
        (
            {"embeddings.LayerNorm.bias_input_limit": np.array([1], np.float32)},
            CheckpointError,
            "parts without their parameter: embeddings",
        ),
    ],
)
def test_broken_files_are_named_errors(bert_folder, texts, tmp_path, changes, error, message):
    aerogel.compress(bert_folder, tmp_path / "good", recipe=recipe_of(texts))
    shutil.copytree(tmp_path / "good", tmp_path / "bad")
    file = tmp_path / "bad" / "model.safetensors"
    save_file({**load_file(file), **changes}, file)
    with pytest.raises(error, match=message):
        aerogel.load(tmp_path / "bad", verify=False)

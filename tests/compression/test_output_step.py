"""The linear that an encoder gets behind its pooling, and heads, both fitted to what pruned layers make."""

import json

import numpy as np
import pytest

import aerogel
from aerogel.architectures import Dense
from aerogel.checkpoint import open_checkpoint
from aerogel.compression.recipe import Calibration, Prune, Recipe
from aerogel.evaluate.task import cosines

from .. import tiny_models
from ..tiny_models import WORDS


def sentences(count, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 12))) for _ in range(count)]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "texts.txt"
    file.write_text("\n".join(sentences(400, 0)))
    return file


def recipe(texts, **prune):
    return Recipe(calibration=Calibration((str(texts),)), prune=Prune(sparsity=0.8, **prune))


def error(source, out):
    """Mean squared error of embeddings before they get length 1, of texts that were not fitted to."""
    ids = open_checkpoint(source).tokenizer().encode(sentences(100, 1))
    dense, own = (aerogel.load(folder).forward(ids, output="pooled") for folder in (source, out))
    return float(np.square(own - dense).mean())


def test_embeddings_of_other_texts_are_nearer_to_the_dense_models(bert_folder, texts, tmp_path):
    aerogel.compress(bert_folder, tmp_path / "fitted", recipe=recipe(texts))
    aerogel.compress(bert_folder, tmp_path / "plain", recipe=recipe(texts, fit_heads=False))
    assert open_checkpoint(tmp_path / "plain").pooling == open_checkpoint(bert_folder).pooling
    assert error(bert_folder, tmp_path / "fitted") < 0.99 * error(bert_folder, tmp_path / "plain")


def test_it_is_a_module_of_sentence_transformers(bert_folder, texts, tmp_path):
    report = aerogel.compress(bert_folder, tmp_path / "out", recipe=recipe(texts))
    width = open_checkpoint(bert_folder).config["hidden_size"]
    assert open_checkpoint(tmp_path / "out").pooling.steps == (Dense("sentence.0", width, width, True, None),)
    kinds = [module["type"].rpartition(".")[2] for module in json.loads((tmp_path / "out/modules.json").read_text())]
    assert kinds == ["Transformer", "Pooling", "Dense", "Normalize"]
    assert [t.role for t in report.tensors if t.name == "sentence.0.weight"] == ["head"]
    aerogel.export(tmp_path / "out", tmp_path / "plain")
    some = sentences(20, 2)
    same = cosines(aerogel.load(tmp_path / "plain").encode(some), aerogel.load(tmp_path / "out").encode(some))
    assert same.min() > 0.995
    modules = pytest.importorskip("sentence_transformers")
    theirs = modules.SentenceTransformer(str(tmp_path / "plain"), device="cpu").encode(some)
    np.testing.assert_allclose(theirs, aerogel.load(tmp_path / "plain").encode(some), atol=1e-4)


def test_a_linear_that_ends_the_embedding_already_is_fitted_itself(bert_folder, texts, tmp_path):
    aerogel.compress(bert_folder, tmp_path / "once", recipe=recipe(texts))
    aerogel.export(tmp_path / "once", tmp_path / "dense")
    aerogel.compress(tmp_path / "dense", tmp_path / "twice", recipe=recipe(texts))
    before, after = (open_checkpoint(tmp_path / name) for name in ("dense", "twice"))
    assert after.pooling == before.pooling and len(after.pooling.steps) == 1
    assert np.abs(after.array("sentence.0.bias") - before.array("sentence.0.bias")).max() > 0


@pytest.mark.parametrize("count", [20, 0])
def test_without_enough_texts_the_model_stays_as_it_is(count, bert_folder, tmp_path):
    file = tmp_path / "few.txt"
    file.write_text("\n".join(sentences(20, 0)))
    plain = Recipe(calibration=Calibration((str(file),), samples=count or None), prune=Prune(sparsity=0.5))
    if not count:
        plain = Recipe(prune=Prune(sparsity=0.5, method="magnitude"))
    aerogel.compress(bert_folder, tmp_path / "out", recipe=plain)
    assert open_checkpoint(tmp_path / "out").pooling == open_checkpoint(bert_folder).pooling


def test_a_classifiers_head_is_fitted(texts, tmp_path):
    config = {
        **tiny_models.BERT,
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "a", "1": "b", "2": "c"},
    }
    weights = tiny_models.bert_weights(config)
    width, rng = config["hidden_size"], np.random.default_rng(3)
    weights |= {
        "pooler.dense.weight": rng.normal(0, 0.2, (width, width)).astype(np.float32),
        "pooler.dense.bias": np.zeros(width, np.float32),
        "classifier.weight": rng.normal(0, 0.5, (3, width)).astype(np.float32),
        "classifier.bias": np.zeros(3, np.float32),
    }
    source = tiny_models.write(tmp_path / "source", config, weights)
    some = sentences(200, 4)
    dense = aerogel.load(source).scores(some)
    errors = {}
    for fit in (True, False):
        aerogel.compress(source, tmp_path / f"{fit}", recipe=recipe(texts, fit_heads=fit))
        errors[fit] = np.square(aerogel.load(tmp_path / f"{fit}").scores(some) - dense).mean()
    assert errors[True] < 0.98 * errors[False]

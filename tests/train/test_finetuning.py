"""Fine-tuning a tiny BERT on a task that it can learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

import aerogel  # noqa: E402
from aerogel.errors import DataError, RecipeError, ShapeError, UnsupportedModelError  # noqa: E402
from aerogel.train import Options, finetune  # noqa: E402

from .. import tiny_models  # noqa: E402

RANDOM = np.random.default_rng(0)
TEXTS = [" ".join(RANDOM.choice(tiny_models.WORDS, 4).tolist()) for _ in range(300)]
LABELS = [int("cat" in text or "dog" in text) for text in TEXTS]
QUICK = {"batch_tokens": 192, "threads": 1, "sparsity": 0.0, "quant": None, "lr": 3e-3}


@pytest.fixture(scope="module")
def classifier(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("task") / "dense"
    finetune(bert_folder, out, TEXTS, LABELS, options=Options(steps=120, train_embeddings=True, **QUICK))
    return out


def accuracy(folder: Path) -> float:
    return float((aerogel.load(folder).scores(TEXTS).argmax(1) == LABELS).mean())


def test_a_classifier_learns_and_the_engine_runs_it(classifier: Path) -> None:
    assert accuracy(classifier) > 0.95
    config = json.loads((classifier / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"] and len(config["id2label"]) == 2
    assert not list(classifier.glob("*sentence*")) and not (classifier / "modules.json").exists()


def test_transformers_gives_the_same_scores(classifier: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model, info = transformers.BertForSequenceClassification.from_pretrained(classifier, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    engine = aerogel.load(classifier)
    for text in TEXTS[:5]:
        with torch.no_grad():
            theirs = model.eval()(torch.tensor(engine.tokenizer.encode([text]))).logits[0]
        np.testing.assert_allclose(engine.scores(text), theirs.numpy(), atol=1e-4)


def test_a_pruned_student_with_a_teacher(classifier: Path, tmp_path: Path) -> None:
    options = Options(**{**QUICK, "steps": 80, "sparsity": 0.7, "quant": "int8", "stages": 6})
    done = finetune(classifier, tmp_path / "out", TEXTS, LABELS, teacher=classifier, options=options)
    assert set(done.losses) == {"hidden", "logits", "labels"} and done.sparsity == pytest.approx(0.7, abs=2e-3)
    aerogel.compress(tmp_path / "out", tmp_path / "packed", sparsity=0)
    assert accuracy(tmp_path / "packed") > 0.9


def test_dropout_follows_the_seed(bert_folder: Path, tmp_path: Path) -> None:
    options = {**QUICK, "steps": 4, "dropout": 0.3}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        finetune(bert_folder, tmp_path / name, TEXTS, LABELS, options=Options(**options, seed=seed))
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(("texts", "labels", "message"), [
    (["a"], [0, 1], "labels: expected 1, one for each text, got 2"),
    ([], [], "texts: expected at least one"),
    (["a", " "], [0, 1], "text 1: is empty"),
    (["a", "b"], [0, -1], "whole numbers from 0"),
    (["a", "b"], [0.5, 1.0], "whole numbers from 0"),
])  # fmt: skip
def test_bad_data_are_named(bert_folder: Path, tmp_path: Path, texts, labels, message: str) -> None:
    with pytest.raises(DataError, match=message):
        finetune(bert_folder, tmp_path / "out", texts, labels, options=Options(steps=1, **QUICK))


def test_models_that_do_not_fit_are_named(classifier: Path, tmp_path: Path) -> None:
    options = Options(steps=1, **QUICK)
    granite = {**tiny_models.LLAMA, "model_type": "granite", "architectures": ["GraniteForCausalLM"]}
    without = tiny_models.write(tmp_path / "granite", granite, tiny_models.llama_weights(granite), prefix="model.")
    with pytest.raises(UnsupportedModelError, match="has no classifier that is trained here"):
        finetune(without, tmp_path / "out", TEXTS, LABELS, options=options)
    with pytest.raises(DataError, match="labels: expected 0 to 1, got 2"):
        finetune(classifier, tmp_path / "out", TEXTS[:3], [0, 1, 2], options=options)
    three = {
        **tiny_models.BERT,
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": 0, "1": 1, "2": 2},
    }
    other = tiny_models.write(tmp_path / "three", three, tiny_models.bert_weights(three), prefix="bert.")
    with pytest.raises(ShapeError, match="teacher: expected a classifier of 2 labels, got 3"):
        finetune(classifier, tmp_path / "out", TEXTS, LABELS, teacher=other, options=options)


def test_texts_with_labels_are_not_altered(bert_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="augment: expected 0 where texts have labels, got 0.5"):
        finetune(bert_folder, tmp_path / "out", TEXTS, LABELS, options=Options(steps=1, augment=0.5, **QUICK))

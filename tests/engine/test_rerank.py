"""Scores of pairs, on a tiny classifier."""

import numpy as np
import pytest

import aerogel
from aerogel.engine.rerank import activation, split_pairs
from aerogel.errors import AerogelError, DataError, ShapeError, UnsupportedModelError

from .. import tiny_models

IDENTITY = "torch.nn.modules.linear.Identity"
PAIRS = [("the cat", "a dog sat"), ("big", "the red tree"), ("not", "")]


def _folder(tmp_path, labels, **more):
    config = {
        **tiny_models.BERT,
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(i): f"L{i}" for i in range(labels)},
        **more,
    }
    return tiny_models.write(tmp_path / f"m{labels}", config, tiny_models.bert_weights(config), prefix="bert.")


def test_one_label_is_a_probability(tmp_path):
    model = aerogel.load(_folder(tmp_path, 1))
    raw = model.scores([a for a, _ in PAIRS], [b for _, b in PAIRS])[:, 0]
    got = model.predict(PAIRS)
    assert got.shape == (3,) and got.dtype == np.float32
    np.testing.assert_allclose(got, 1 / (1 + np.exp(-raw)), atol=1e-6)
    np.testing.assert_allclose([model.predict(PAIRS[0]), model.predict(list(PAIRS[1]))], got[:2], atol=1e-6)
    np.testing.assert_array_equal(model.predict(PAIRS, activation_fn="identity"), raw)
    np.testing.assert_array_equal(model.predict(PAIRS, activation_fn=lambda x: x * 2), raw * 2)
    assert model.predict([]).shape == (0,)
    np.testing.assert_allclose(model.predict(PAIRS, batch_size=1), got, atol=1e-6)


def test_several_labels_are_raw(tmp_path):
    model = aerogel.load(_folder(tmp_path, 3))
    raw = model.scores([a for a, _ in PAIRS], [b for _, b in PAIRS])
    np.testing.assert_array_equal(model.predict(PAIRS), raw)
    np.testing.assert_allclose(model.predict(PAIRS, apply_softmax=True).sum(1), 1, atol=1e-6)
    with pytest.raises(UnsupportedModelError, match="one label, got 3"):
        model.rank("the", ["cat"])


def test_the_best_come_first(tmp_path):
    model = aerogel.load(_folder(tmp_path, 1))
    documents = ["the cat sat", "a dog", "red and blue", "not"]
    found = model.rank("big tree", documents, return_documents=True)
    scores = model.predict([("big tree", d) for d in documents])
    assert [r["corpus_id"] for r in found] == np.argsort(-scores).tolist()
    assert all(r["text"] == documents[r["corpus_id"]] and r["score"] == scores[r["corpus_id"]] for r in found)
    assert model.rank("big tree", documents, top_k=2) == [{k: r[k] for k in ("corpus_id", "score")} for r in found[:2]]
    assert model.rank("big tree", []) == []


@pytest.mark.parametrize(
    "said",
    [
        {"sentence_transformers": {"activation_fn": IDENTITY}},
        {"sbert_ce_default_activation_function": IDENTITY},
    ],
)
def test_the_files_name_the_activation(tmp_path, said):
    model = aerogel.load(_folder(tmp_path, 1, **said))
    np.testing.assert_array_equal(
        model.predict(PAIRS), model.scores([a for a, _ in PAIRS], [b for _, b in PAIRS])[:, 0]
    )


def test_what_is_refused(tmp_path):
    model = aerogel.load(_folder(tmp_path, 1, sbert_ce_default_activation_function="my.module.Scaled"))
    with pytest.raises(UnsupportedModelError, match="my.module.Scaled"):
        model.predict(PAIRS)
    with pytest.raises(ShapeError, match="activation_fn: expected scores"):
        model.predict(PAIRS, activation_fn=lambda x: x[0])
    with pytest.raises(AerogelError, match="activation_fn: expected one of"):
        activation("cosine", None, 1)
    for wrong in ("text", [("a",)], [("a", 3)], [3], [("a", "b", "c")]):
        with pytest.raises(DataError):
            split_pairs(wrong)
    assert aerogel.load(_folder(tmp_path, 2)).labels == ["L0", "L1"]


def test_an_embedding_model_does_not_score(bert_folder):
    with pytest.raises(UnsupportedModelError, match="not a classifier"):
        aerogel.load(bert_folder).predict(PAIRS)
    with pytest.raises(UnsupportedModelError, match="rerank: expected a language model.*got BertModel"):
        aerogel.load(bert_folder, rerank="qwen3-reranker")

"""What Ray Data runs, called as it calls it: without Ray."""

import json
import pickle

import numpy as np
import pytest

import aerogel
from aerogel.errors import AerogelError, DataError, UnsupportedModelError
from aerogel.ray import Classify, Embed, Generate, Rerank
from aerogel.ray.batches import texts, with_columns

from .. import tiny_models
from ..integrations.models import TEXTS, write_embedder, write_reranker


def test_embed(bert_folder, tmp_path, monkeypatch):
    path = write_embedder(bert_folder, tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    stage = Embed("m", column="body", encode_options={"truncate_dim": 8}, threads=1)
    assert isinstance(stage, type) and stage.__name__ == "Embed"  # Ray Data makes actors of classes
    monkeypatch.chdir("/")
    embed = stage()
    batch = {"id": np.arange(4), "body": np.array(TEXTS, object)}
    found = embed(batch)
    model = aerogel.load(path)
    np.testing.assert_array_equal(found["embedding"], model.encode_document(TEXTS, truncate_dim=8))
    assert list(found) == ["id", "body", "embedding"] and list(batch) == ["id", "body"] and embed.model.threads == 1
    query = Embed(path, task="query", output="q")()({"text": TEXTS})
    np.testing.assert_array_equal(query["q"], model.encode_query(TEXTS))
    plain = Embed(path, task=None)()({"text": []})
    assert plain["embedding"].shape == (0, model.embedding_size)


def test_arrow_and_pandas(bert_folder):
    expected = aerogel.load(bert_folder).encode(TEXTS)
    embed = Embed(bert_folder)()
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"text": TEXTS, "embedding": [0] * 4, "id": range(4)})
    found = embed(table)
    assert found.column_names == ["text", "embedding", "id"]
    np.testing.assert_array_equal(np.array(found["embedding"].to_pylist(), np.float32), expected)
    frame = embed(pytest.importorskip("pandas").DataFrame({"text": TEXTS}))
    np.testing.assert_array_equal(np.stack(frame["embedding"].to_list()), expected)


def test_classify_and_rerank(tmp_path):
    config = {
        **tiny_models.BERT,
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "no", "1": "yes"},
    }
    path = str(tiny_models.write(tmp_path / "c", config, tiny_models.bert_weights(config), prefix="bert."))
    found = Classify(path, column="t")()({"t": TEXTS})
    raw = aerogel.load(path).scores(TEXTS)
    assert found["label"].tolist() == [["no", "yes"][i] for i in raw.argmax(1)]
    powers = np.exp(raw.astype(np.float64))
    np.testing.assert_allclose(found["label_scores"], powers / powers.sum(1, keepdims=True), rtol=1e-5)
    (tmp_path / "c" / "config.json").write_text(json.dumps({**config, "problem_type": "multi_label_classification"}))
    several = Classify(path)()({"text": TEXTS})
    np.testing.assert_allclose(several["label_scores"], 1 / (1 + np.exp(-raw.astype(np.float64))), rtol=1e-5)
    with pytest.raises(UnsupportedModelError, match="one label, got 2"):
        Rerank(path)()
    reranker = write_reranker(tmp_path / "r")
    scores = Rerank(reranker)()({"query": ["big cat"] * 4, "text": TEXTS})["score"]
    np.testing.assert_array_equal(scores, aerogel.load(reranker).predict([("big cat", text) for text in TEXTS]))


def test_generate(llama_folder):
    options = {"max_new_tokens": 5, "temperature": 0.7, "seed": 3}
    found = Generate(llama_folder, generate_options=options)()({"prompt": TEXTS[:2]})
    assert found["generated"].tolist() == aerogel.load(llama_folder).generate(TEXTS[:2], **options)


def test_errors_say_what_and_where(bert_folder, llama_folder, tmp_path):
    with pytest.raises(DataError, match="task: expected 'document'"):
        Embed(bert_folder, task="x")
    with pytest.raises(AerogelError, match="threads: expected at least 1"):
        Embed(bert_folder, threads=0)
    with pytest.raises(AerogelError, match="no such file or folder"):
        Embed(tmp_path / "none")()
    with pytest.raises(UnsupportedModelError, match="not an embedding model"):
        Embed(llama_folder)()
    with pytest.raises(UnsupportedModelError, match="not a classifier"):
        Classify(bert_folder)()
    with pytest.raises(UnsupportedModelError, match="not a classifier"):
        Rerank(bert_folder)()
    embed = Embed(bert_folder)()
    with pytest.raises(DataError, match="column 'text': the batch has a, b"):
        embed({"a": [], "b": []})
    with pytest.raises(DataError, match="expected texts, got NoneType in row 1"):
        embed({"text": ["a", None]})
    with pytest.raises(DataError, match="batch: expected a dict of arrays"):
        embed(["a"])


def test_columns_of_texts_are_objects():
    batch = with_columns({"a": np.ones(2)}, {"b": ["x", "longer"]})
    assert batch["b"].dtype == object and texts(batch, "b") == ["x", "longer"]


def test_a_class_goes_to_other_processes(bert_folder):
    cloudpickle = pytest.importorskip("cloudpickle")
    stage = pickle.loads(cloudpickle.dumps(Embed(bert_folder, output="e")))
    np.testing.assert_array_equal(stage()({"text": TEXTS})["e"], aerogel.load(bert_folder).encode(TEXTS))

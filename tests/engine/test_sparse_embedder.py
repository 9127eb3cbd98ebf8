"""Sparse embeddings of a tiny masked language model."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

import aerogel
from aerogel.engine.sparse_vectors import SparseVectors
from aerogel.errors import AerogelError, ConfigError, ShapeError, UnsupportedModelError

from .. import tiny_models
from ..architectures import peers

TEXTS = ["the cat sat on the mat", "a big dog", "not"]


def masked_folder(folder, activation=None):
    config = {**tiny_models.BERT, "architectures": ["BertForMaskedLM"]}
    tiny_models.write(folder, config, tiny_models.bert_weights(config), prefix="bert.")
    if activation is not None:
        kinds = (("MLMTransformer", ""), ("SpladePooling", "1_SpladePooling"))
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.sparse_encoder.models.{kind}"}
            for i, (kind, path) in enumerate(kinds)
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_SpladePooling").mkdir()
        said = {"pooling_strategy": "max", "activation_function": activation, "word_embedding_dimension": None}
        (folder / "1_SpladePooling" / "config.json").write_text(json.dumps(said))
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32, "do_lower_case": False}))
        about = {"model_type": "SparseEncoder", "similarity_fn_name": None, "prompts": {}, "default_prompt_name": None}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(about))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
    return folder


@pytest.mark.parametrize("activation", [None, "relu", "log1p_relu"])
def test_the_largest_logit_of_each_term(tmp_path, activation):
    model = aerogel.load(masked_folder(tmp_path, activation))
    found = model.encode_sparse(TEXTS)
    expected = []
    for ids in model.tokenizer.encode(TEXTS):
        weights = np.log1p(np.maximum(model.forward(ids, output="logits").max(axis=0), 0))
        expected.append(np.log1p(weights) if activation == "log1p_relu" else weights)
    assert found.shape == (3, model.vocab_size) and 0 < len(found.terms) < 3 * model.vocab_size
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-5)
    few = model.encode_sparse(TEXTS, max_active_dims=4)
    assert np.diff(few.offsets).max() == 4
    for i in range(3):
        terms, weights = few.row(i)
        np.testing.assert_allclose(np.sort(weights), np.sort(expected[i])[-4:], atol=1e-5)
        np.testing.assert_allclose(np.asarray(expected)[i, terms], weights, atol=1e-5)
    assert model.encode_sparse([]).shape == (0, model.vocab_size)
    np.testing.assert_allclose(model.encode_sparse(TEXTS[1]).toarray(), expected[1:2], atol=1e-5)


def test_a_packed_model_keeps_what_it_is(tmp_path):
    source = masked_folder(tmp_path / "source", "log1p_relu")
    aerogel.compress(source, tmp_path / "packed", quant="int8")
    packed, plain = aerogel.load(tmp_path / "packed"), aerogel.load(source)
    a, b = packed.encode_sparse(TEXTS).toarray(), plain.encode_sparse(TEXTS).toarray()
    assert np.abs(a - b).max() < 0.1 * b.max()  # int8; the other activation is further off
    aerogel.export(tmp_path / "packed", tmp_path / "exported")
    np.testing.assert_allclose(
        aerogel.load(tmp_path / "exported").encode_sparse(TEXTS).toarray(), a, atol=0.05 * b.max()
    )


def test_products_and_refusals(tmp_path, bert_folder):
    random = np.random.default_rng(0)
    dense = np.where(random.random((5, 30)) < 0.2, random.random((5, 30)), 0).astype(np.float32)
    vectors = SparseVectors.of(dense)
    np.testing.assert_array_equal(vectors.toarray(), dense)
    np.testing.assert_allclose(vectors.dot(SparseVectors.of(dense[:2])), dense @ dense[:2].T, atol=1e-6)
    np.testing.assert_array_equal(
        SparseVectors.joined([vectors, vectors], 30).toarray(), np.concatenate([dense, dense])
    )
    with pytest.raises(ShapeError, match="vectors of 30 terms, got 7"):
        vectors.dot(SparseVectors.of(dense[:, :7]))
    with pytest.raises(ShapeError, match="row: expected 0 to 4"):
        vectors.row(5)
    with pytest.raises(UnsupportedModelError, match="not a masked language model"):
        aerogel.load(bert_folder).encode_sparse(TEXTS)
    broken = masked_folder(tmp_path / "sum", "relu")
    (broken / "1_SpladePooling" / "config.json").write_text(json.dumps({"pooling_strategy": "sum"}))
    with pytest.raises(UnsupportedModelError, match="pooling_strategy: 'sum'"):
        aerogel.load(broken)


def routed_folder(folder):
    """A masked language model for documents, and a weight of each token for queries."""
    masked_folder(folder, "log1p_relu")
    peers.tokenizer(folder, 40)
    query = folder / "query_0_SparseStaticEmbedding"
    query.mkdir()
    weights = np.abs(np.random.default_rng(0).standard_normal(40)).astype(np.float32)
    save_file({"weight": weights}, query / "model.safetensors")
    (query / "config.json").write_text(json.dumps({"frozen": True}))
    shutil.copy(folder / "tokenizer.json", query)
    said = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 5}
    (query / "tokenizer_config.json").write_text(json.dumps(said))
    package = "sentence_transformers.sparse_encoder.models."
    kinds = {"": "MLMTransformer", "1_SpladePooling": "SpladePooling", query.name: "SparseStaticEmbedding"}
    router = {
        "types": {name: package + kind for name, kind in kinds.items()},
        "structure": {"query": [query.name], "document": ["", "1_SpladePooling"]},
        "parameters": {"default_route": "document", "allow_empty_key": True},
    }
    (folder / "router_config.json").write_text(json.dumps(router))
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Router"}
    (folder / "modules.json").write_text(json.dumps([module]))
    return weights


def test_queries_from_a_table(tmp_path):
    weights = routed_folder(tmp_path / "model")
    model = aerogel.load(tmp_path / "model")
    texts = ["the cat the dog", "", "a red mat under the small tree by the cat"]
    expected = np.zeros((3, model.vocab_size), np.float32)
    for row, ids in zip(expected, model.tokenizer.encode(texts, special=False), strict=True):
        row[ids[:5]] = weights[ids[:5]]
    np.testing.assert_array_equal(model.encode_sparse(texts, task="query").toarray(), expected)
    documents = model.encode_sparse(TEXTS).toarray()
    np.testing.assert_array_equal(model.encode_sparse(TEXTS, task="document").toarray(), documents)
    assert np.diff(model.encode_sparse(texts, task="query", max_active_dims=2).offsets).tolist() == [2, 0, 2]
    aerogel.compress(tmp_path / "model", tmp_path / "packed", sparsity=0.0, quant="none")
    aerogel.compress(tmp_path / "model", tmp_path / "packed", sparsity=0.0, quant="none", overwrite=True)
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    for written in ("packed", "plain"):
        again = aerogel.load(tmp_path / written)
        np.testing.assert_array_equal(again.encode_sparse(texts, task="query").toarray(), expected)
        np.testing.assert_allclose(again.encode_sparse(TEXTS).toarray(), documents, atol=1e-6)
        said = json.loads((tmp_path / written / "query_0_SparseStaticEmbedding" / "tokenizer_config.json").read_text())
        assert said["pad_token"] in model.tokenizer.vocabulary(), "batches are filled elsewhere"
    with pytest.raises(AerogelError, match="task: expected one of query, document, got 'passage'"):
        model.encode_sparse(texts, task="passage")


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (
            {"structure": {"query": ["q"], "document": ["", "1_SpladePooling"]}},
            ConfigError,
            "structure: expected lists",
        ),
        ({"structure": {"document": ["", "1_SpladePooling"]}}, UnsupportedModelError, "expected SparseStaticEmbedding"),
        ({"parameters": {"default_route": "query"}}, UnsupportedModelError, "documents unless said, got .* 'query'"),
        ({"parameters": {"route_mappings": {"x": "y"}}}, UnsupportedModelError, "route_mappings"),
        ({"types": []}, ConfigError, "types: expected an object"),
    ],
    ids=str,
)
def test_other_routers_are_refused(tmp_path, changed, error, message):
    routed_folder(tmp_path / "model")
    path = tmp_path / "model" / "router_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    with pytest.raises(error, match=message):
        aerogel.load(tmp_path / "model")

"""With LlamaIndex itself, where it is installed."""

import asyncio

import numpy as np
import pytest

import aerogel
from aerogel.errors import DataError

from .models import TEXTS, write_embedder, write_reranker

pytest.importorskip("llama_index.core")


def test_embedding(bert_folder, tmp_path):
    from aerogel.integrations.llama_index import AerogelEmbedding

    path = write_embedder(bert_folder, tmp_path / "m")
    model = aerogel.load(path)
    embedding = AerogelEmbedding(path, threads=1)
    np.testing.assert_allclose(embedding.get_text_embedding_batch(TEXTS), model.encode(TEXTS, prompt="a "), atol=1e-6)
    np.testing.assert_allclose(embedding.get_text_embedding("cat"), model.encode("cat", prompt="a "), atol=1e-6)
    np.testing.assert_allclose(embedding.get_query_embedding("cat"), model.encode("cat", prompt="the "), atol=1e-6)
    query = asyncio.run(embedding.aget_query_embedding("cat"))
    np.testing.assert_allclose(query, model.encode("cat", prompt="the "), atol=1e-6)
    many = asyncio.run(embedding.aget_text_embedding_batch(TEXTS))
    np.testing.assert_allclose(many, model.encode(TEXTS, prompt="a "), atol=1e-6)
    assert embedding.class_name() == "AerogelEmbedding"


def test_rerank(tmp_path):
    from llama_index.core.schema import NodeWithScore, TextNode

    from aerogel.integrations.llama_index import AerogelRerank

    path = write_reranker(tmp_path / "m")
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in TEXTS]
    found = AerogelRerank(path, top_n=3).postprocess_nodes(nodes, query_str="big cat")
    expected = aerogel.load(path).rank("big cat", TEXTS, 3)
    assert [n.node.get_content() for n in found] == [TEXTS[row["corpus_id"]] for row in expected]
    assert [n.score for n in found] == pytest.approx([row["score"] for row in expected])
    with pytest.raises(DataError, match="query_bundle"):
        AerogelRerank(path).postprocess_nodes(nodes)

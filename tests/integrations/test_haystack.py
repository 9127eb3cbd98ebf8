"""With Haystack itself, where it is installed."""

import numpy as np
import pytest

import aerogel

from .models import TEXTS, write_embedder, write_reranker

pytest.importorskip("haystack")


def test_embedders_in_a_pipeline(bert_folder, tmp_path):
    from haystack import Document, Pipeline
    from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    from aerogel.integrations.haystack import AerogelDocumentEmbedder, AerogelTextEmbedder

    path = write_embedder(bert_folder, tmp_path / "m")
    model = aerogel.load(path)
    embedder = AerogelDocumentEmbedder(path, load_options={"threads": 1})
    documents = embedder.run([Document(content=text) for text in TEXTS])["documents"]
    rows = model.encode(TEXTS, prompt="a ")
    np.testing.assert_allclose([d.embedding for d in documents], rows, atol=1e-6)
    store = InMemoryDocumentStore(embedding_similarity_function="dot_product")
    store.write_documents(documents)
    pipeline = Pipeline()
    pipeline.add_component("embedder", AerogelTextEmbedder(path))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=4))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    found = pipeline.run({"embedder": {"text": "cat"}})["retriever"]["documents"]
    expected = rows @ model.encode("cat", prompt="the ")
    assert [d.content for d in found] == [TEXTS[i] for i in np.argsort(-expected)]


def test_metadata_before_the_content(bert_folder, tmp_path):
    from haystack import Document

    from aerogel.integrations.haystack import AerogelDocumentEmbedder

    path = write_embedder(bert_folder, tmp_path / "m")
    embedder = AerogelDocumentEmbedder(path, meta_fields_to_embed=["title", "none"], embedding_separator=" ")
    [document] = embedder.run([Document(content="cat", meta={"title": "big"})])["documents"]
    np.testing.assert_allclose(document.embedding, aerogel.load(path).encode("big cat", prompt="a "), atol=1e-6)


def test_ranker_and_saving(tmp_path):
    from haystack import Document

    from aerogel.integrations.haystack import AerogelRanker

    path = write_reranker(tmp_path / "m")
    ranker = AerogelRanker.from_dict(AerogelRanker(path, top_k=3, load_options={"threads": 1}).to_dict())
    documents = [Document(content=text) for text in TEXTS]
    found = ranker.run("big cat", documents)["documents"]
    expected = aerogel.load(path).rank("big cat", TEXTS, 3)
    assert [d.content for d in found] == [TEXTS[row["corpus_id"]] for row in expected]
    assert [d.score for d in found] == pytest.approx([row["score"] for row in expected])
    assert len(ranker.run("big cat", documents, top_k=1)["documents"]) == 1 and documents[0].score is None

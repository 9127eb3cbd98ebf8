"""With LangChain itself, where it is installed."""

import asyncio

import numpy as np
import pytest

import aerogel

from .models import TEXTS, write_embedder, write_reranker

pytest.importorskip("langchain_core")


def test_embeddings(bert_folder, tmp_path):
    from langchain_core.vectorstores import InMemoryVectorStore

    from aerogel.integrations.langchain import AerogelEmbeddings

    path = write_embedder(bert_folder, tmp_path / "m")
    model = aerogel.load(path)
    embeddings = AerogelEmbeddings(path, threads=1)
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS), model.encode(TEXTS, prompt="a "), atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_query("cat"), model.encode("cat", prompt="the "), atol=1e-6)
    np.testing.assert_allclose(asyncio.run(embeddings.aembed_query("cat")), embeddings.embed_query("cat"), atol=1e-6)
    short = AerogelEmbeddings(model, {"truncate_dim": 5, "normalize": True})
    assert np.shape(short.embed_documents(TEXTS)) == (4, 5) and short.embed_documents([]) == []
    store = InMemoryVectorStore.from_texts(TEXTS, embeddings)
    expected = model.encode(TEXTS, prompt="a ") @ model.encode("cat", prompt="the ")
    assert [d.page_content for d in store.similarity_search("cat", k=4)] == [TEXTS[i] for i in np.argsort(-expected)]


def test_reranker(tmp_path):
    from langchain_core.documents import Document

    from aerogel.integrations.langchain import AerogelReranker

    path = write_reranker(tmp_path / "m")
    documents = [Document(page_content=text, metadata={"n": i}) for i, text in enumerate(TEXTS)]
    found = AerogelReranker(path, top_n=2).compress_documents(documents, "big cat")
    expected = aerogel.load(path).rank("big cat", TEXTS, 2)
    assert [d.metadata["n"] for d in found] == [row["corpus_id"] for row in expected]
    assert [d.metadata["relevance_score"] for d in found] == pytest.approx([row["score"] for row in expected])
    assert "relevance_score" not in documents[0].metadata
    assert len(AerogelReranker(path, top_n=None).compress_documents(documents, "x")) == 4

"""LangChain's Embeddings and document compressor (`pip install aerogel[langchain]`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, PrivateAttr

from aerogel.engine.model import Model, load


class AerogelEmbeddings(Embeddings):
    """Embeds documents and queries, each after the prompt that the model's authors put before it.

    Args:
        model: what `aerogel.load` takes, or a loaded model.
        encode_options: of `Model.encode`: normalize, truncate_dim, batch_size ...
        load_options: of `aerogel.load`: threads, pooling ...
    """

    def __init__(self, model: Any, encode_options: dict[str, Any] | None = None, **load_options: Any) -> None:
        self.model: Model = model if isinstance(model, Model) else load(model, **load_options)
        self.encode_options = dict(encode_options or {})

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One embedding a text."""
        found: list[list[float]] = self.model.encode_document(texts, **self.encode_options).tolist()
        return found

    def embed_query(self, text: str) -> list[float]:
        """The embedding of a query."""
        found: list[float] = self.model.encode_query(text, **self.encode_options).tolist()
        return found


class AerogelReranker(BaseDocumentCompressor):
    """Keeps the documents that a cross-encoder scores highest for a query; the score is `relevance_score` of their metadata.

    Args:
        model: what `aerogel.load` takes, or a loaded model.
        top_n: how many documents are kept; None: all.
        load_options: of `aerogel.load`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)
    top_n: int | None = 3
    _model: Model = PrivateAttr()

    def __init__(self, model: Any, top_n: int | None = 3, **load_options: Any) -> None:
        super().__init__(top_n=top_n)
        self._model = model if isinstance(model, Model) else load(model, **load_options)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """The best documents, the best first; copies."""
        ranked = self._model.rank(query, [document.page_content for document in documents], self.top_n)
        found = []
        for row in ranked:
            document = documents[row["corpus_id"]]
            metadata = {**document.metadata, "relevance_score": row["score"]}
            found.append(document.model_copy(update={"metadata": metadata}))
        return found

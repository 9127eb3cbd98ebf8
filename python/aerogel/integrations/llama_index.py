"""LlamaIndex's embedding and node postprocessor (`pip install aerogel[llama-index]`)."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from aerogel.engine.model import Model, load
from aerogel.errors import DataError


class AerogelEmbedding(BaseEmbedding):
    """Embeds nodes and queries, each after the prompt that the model's authors put before it.

    Args:
        model: what `aerogel.load` takes, or a loaded model.
        encode_options: of `Model.encode`: normalize, truncate_dim ...
        embed_batch_size: texts a call; more texts at once are faster than few.
        load_options: of `aerogel.load`: threads, pooling ...
    """

    _model: Model = PrivateAttr()
    _options: dict[str, Any] = PrivateAttr()

    def __init__(
        self,
        model: Any,
        encode_options: dict[str, Any] | None = None,
        embed_batch_size: int = 256,
        **load_options: Any,
    ) -> None:
        super().__init__(model_name=str(getattr(model, "path", model)), embed_batch_size=embed_batch_size)
        self._model = model if isinstance(model, Model) else load(model, **load_options)
        self._options = dict(encode_options or {})

    @classmethod
    def class_name(cls) -> str:
        """The name under which it is saved."""
        return "AerogelEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        found: list[float] = self._model.encode_query(query, **self._options).tolist()
        return found

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        found: list[list[float]] = self._model.encode_document(texts, **self._options).tolist()
        return found

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


class AerogelRerank(BaseNodePostprocessor):
    """Keeps the nodes that a cross-encoder scores highest for the query.

    Args:
        model: what `aerogel.load` takes, or a loaded model.
        top_n: how many nodes are kept; None: all.
        load_options: of `aerogel.load`.
    """

    top_n: int | None = 2
    _model: Model = PrivateAttr()

    def __init__(self, model: Any, top_n: int | None = 2, **load_options: Any) -> None:
        super().__init__(top_n=top_n)
        self._model = model if isinstance(model, Model) else load(model, **load_options)

    @classmethod
    def class_name(cls) -> str:
        """The name under which it is saved."""
        return "AerogelRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise DataError("query_bundle: expected a query to rank for, got none")
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        ranked = self._model.rank(query_bundle.query_str, texts, self.top_n)
        return [NodeWithScore(node=nodes[row["corpus_id"]].node, score=row["score"]) for row in ranked]

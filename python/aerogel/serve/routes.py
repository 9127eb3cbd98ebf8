"""The table of all routes that take JSON."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from aerogel.serve import chat, completions, embeddings, shapes, tei

#: Of the service and a request's body: plain values, or a response.
Handler = Callable[[Any, Any], Coroutine[Any, Any, Any]]


@dataclass(frozen=True)
class Route:
    """A POST route.

    Attributes:
        path, handler, kind: where, what answers, and what its body is.
        style: whose errors it gives; see `failures.rendered`.
        streams: whether it can answer with events.
    """

    path: str
    handler: Handler
    kind: type[Any]
    style: str
    streams: bool = False

    @property
    def summary(self) -> str:
        """What it gives."""
        return " ".join((self.handler.__doc__ or "").split())


ROUTES = (
    Route("/v1/embeddings", embeddings.embeddings, shapes.EmbeddingsRequest, "openai"),
    Route("/v1/chat/completions", chat.chat, shapes.ChatRequest, "openai", True),
    Route("/v1/completions", completions.complete, shapes.CompletionRequest, "openai", True),
    Route("/v1/rerank", embeddings.rerank, shapes.RankRequest, "cohere"),
    Route("/v2/rerank", embeddings.rerank, shapes.RankRequest, "cohere"),
    Route("/embed", tei.embed, shapes.EmbedRequest, "tei"),
    Route("/embed_all", tei.embed_all, shapes.EmbedAllRequest, "tei"),
    Route("/embed_sparse", tei.embed_sparse, shapes.EmbedAllRequest, "tei"),
    Route("/rerank", tei.rerank, shapes.RerankRequest, "tei"),
    Route("/predict", tei.predict, shapes.PredictRequest, "tei"),
    Route("/similarity", tei.similarity, shapes.SimilarityRequest, "tei"),
    Route("/tokenize", tei.tokenize, shapes.TokenizeRequest, "tei"),
    Route("/decode", tei.decode, shapes.DecodeRequest, "tei"),
)

#: POST /, which text-embeddings-inference answers as the route that its model is for.
_ROOTS = {"embedding": "/embed", "reranker": "/rerank", "classifier": "/predict"}


def routes_for(kind: str) -> tuple[Route, ...]:
    """All of them, where the first model is of that kind."""
    root = [Route("/", one.handler, one.kind, one.style) for one in ROUTES if one.path == _ROOTS.get(kind)]
    return (*ROUTES, *root)


def style_of(path: str) -> str:
    """Whose errors are given at a path."""
    found = next((route.style for route in ROUTES if route.path == path), None)
    return found or ("openai" if path.startswith("/v1/") else "tei")

"""OpenAI's embeddings, and the reranking of Cohere and Jina."""

from __future__ import annotations

import base64
import uuid
from typing import Any

from aerogel.serve.failures import Failure
from aerogel.serve.inputs import as_texts, rows
from aerogel.serve.service import Service
from aerogel.serve.shapes import EmbeddingsRequest, RankRequest


async def embeddings(service: Service, said: EmbeddingsRequest) -> Any:
    """Embeddings of length 1, as OpenAI's are."""
    entry = service.choose(said.model, "embed")
    _, given = rows(said.input, "input")
    service.check_count(len(given), "input")
    model = await service.model(entry)
    if said.dimensions is not None and not 1 <= said.dimensions <= model.embedding_size:
        raise Failure("value", f"dimensions: expected 1 to {model.embedding_size}, got {said.dimensions}", "dimensions")
    found = await service.scheduler.embed(
        entry.name,
        as_texts(model, given, "input"),
        dimensions=said.dimensions,
        normalize=True,
        truncate=service.options.auto_truncate,
        timeout=service.options.timeout,
        **service.prompt(None),
    )
    coded = said.encoding_format == "base64"
    tokens = sum(one.tokens for one in found)
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": i,
                "embedding": base64.b64encode(one.values.astype("<f4").tobytes()).decode() if coded else one.values,
            }
            for i, one in enumerate(found)
        ],
        "model": entry.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


async def rerank(service: Service, said: RankRequest) -> Any:
    """Documents by how well they answer the query, the best first, with scores from 0 to 1 where the model says nothing
    else of them."""
    entry = service.choose(said.model, "rank")
    texts = [_text(i, document) for i, document in enumerate(said.documents)]
    service.check_count(len(texts), "documents")
    if said.top_n is not None and said.top_n < 1:
        raise Failure("value", f"top_n: expected 1 or more, got {said.top_n}", "top_n")
    found = await service.scheduler.score(
        entry.name,
        [(said.query, text) for text in texts],
        truncate=service.truncates(said.truncate),
        timeout=service.options.timeout,
    )
    scores = [float(one.values[0]) for one in found]
    order = sorted(range(len(scores)), key=lambda i: -scores[i])[: said.top_n]
    shown = {i: {"document": {"text": texts[i]}} if said.return_documents else {} for i in order}
    tokens = sum(one.tokens for one in found)
    return {
        "id": f"rerank-{uuid.uuid4().hex}",
        "object": "list",
        "model": entry.name,
        "results": [{"index": i, "relevance_score": scores[i], **shown[i]} for i in order],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "meta": {"api_version": {"version": "1"}, "billed_units": {"search_units": 1}},
    }


def _text(number: int, document: str | dict[str, Any]) -> str:
    text = document if isinstance(document, str) else document.get("text")
    if not isinstance(text, str):
        raise Failure(
            "type", f"documents: expected texts, or objects with a text, got another one at {number}", "documents"
        )
    return text

"""The description of all routes, as OpenAPI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from aerogel._util.version import __version__
from aerogel.serve.routes import Route

#: GET routes: path -> what it gives, and its media type.
READS = {
    "/health": ("Whether the server is up: 200, without a body.", None),
    "/info": ("The served models, in text-embeddings-inference's words; ?model=NAME.", "application/json"),
    "/v1/models": ("The served models, as OpenAI lists them.", "application/json"),
    "/v1/models/{model}": ("One of them.", "application/json"),
    "/metrics": ("Figures for Prometheus.", "text/plain"),
    "/explain": ("Where the time of a model's forward pass goes; ?model=NAME.", "application/json"),
}
_TAGS = {"openai": "OpenAI", "cohere": "Cohere and Jina", "tei": "text-embeddings-inference"}


def document(routes: Sequence[Route], with_key: bool) -> dict[str, Any]:
    """The OpenAPI document.

    Args:
        routes: those that take JSON.
        with_key: whether requests need a key.
    """
    kinds = list(dict.fromkeys(route.kind for route in routes))
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    by_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Any] = {}
    for path, (summary, media) in READS.items():
        content: dict[str, Any] = {} if media is None else {"content": {media: {"schema": {}}}}
        operation: dict[str, Any] = {"summary": summary, "tags": ["Server"]}
        operation["responses"] = {"200": {"description": "OK", **content}}
        if "{" in path:
            operation["parameters"] = [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]
        paths.setdefault(path, {})["get"] = operation
    for route in routes:
        answers: dict[str, Any] = {"application/json": {"schema": {}}}
        if route.streams:
            answers["text/event-stream"] = {"schema": {"type": "string"}}
        errors = {code: {"description": text} for code, text in _ERRORS.items()}
        paths.setdefault(route.path, {})["post"] = {
            "summary": route.summary,
            "tags": [_TAGS[route.style]],
            "requestBody": {"required": True, "content": {"application/json": {"schema": by_kind[route.kind]}}},
            "responses": {"200": {"description": "OK", "content": answers}, **errors},
        }
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "aerogel", "version": __version__},
        "paths": paths,
        "components": {"schemas": components},
    }
    if with_key:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
    return found


_ERRORS = {
    "4XX": "The request is wrong, or the model does something else; the body says what, in the words of the route's API.",
    "429": "There is too much to do; Retry-After says when to come again.",
    "5XX": "The server is at fault, or had no time.",
}

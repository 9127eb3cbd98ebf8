"""What a server says of itself and of its models."""

from __future__ import annotations

from typing import Any

from aerogel._util.version import __version__
from aerogel.serve.catalog import Entry
from aerogel.serve.service import Service


def info(service: Service, name: str | None) -> dict[str, Any]:
    """GET /info, in text-embeddings-inference's words; `models` has all of them."""
    entry = service.catalog.named(name)
    return {
        "model_id": entry.name,
        "model_sha": None,
        "model_dtype": _dtype(service, entry),
        "model_type": _type(entry),
        "max_concurrent_requests": service.scheduling.max_requests,
        "max_input_length": entry.max_tokens,
        "max_batch_tokens": service.scheduling.max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": service.options.max_client_batch,
        "auto_truncate": service.options.auto_truncate,
        "tokenization_workers": 1,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "models": [_summary(service, one) for one in service.catalog.entries.values()],
    }


def _dtype(service: Service, entry: Entry) -> str | None:
    model = service.scheduler.models.get(entry.name)
    return None if model is None or model.closed else model.quantization


def _type(entry: Entry) -> dict[str, Any]:
    if entry.kind == "embedding":
        return {"embedding": {"pooling": entry.pooling}}
    if entry.kind == "generator":
        return {"generator": {}}
    labels = {"id2label": {str(i): label for i, label in enumerate(entry.labels)}}
    return {entry.kind: {**labels, "label2id": {label: i for i, label in enumerate(entry.labels)}}}


def _summary(service: Service, entry: Entry) -> dict[str, Any]:
    model = service.scheduler.models.get(entry.name)
    loaded = model is not None and not model.closed
    return {
        "id": entry.name,
        "kind": entry.kind,
        "gives": sorted(entry.gives),
        "max_input_length": entry.max_tokens,
        "loaded": loaded,
        "bytes": model.nbytes if model is not None and loaded else None,
    }


def listed(service: Service) -> dict[str, Any]:
    """GET /v1/models, as OpenAI's."""
    return {"object": "list", "data": [card(service, name) for name in service.catalog.names]}


def card(service: Service, name: str) -> dict[str, Any]:
    """GET /v1/models/NAME.

    Raises:
        Failure: there is no such model.
    """
    return {"id": service.catalog.named(name).name, "object": "model", "created": 0, "owned_by": "aerogel"}

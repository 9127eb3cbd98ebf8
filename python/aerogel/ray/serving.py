"""A model behind Ray Serve: replicas on many machines, as many as requests are waiting for."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aerogel._util.checks import path_like, texts, whole_number
from aerogel.errors import AerogelError, DataError

if TYPE_CHECKING:
    from aerogel.engine.model import Model

#: Texts of a request, and bytes of its body.
MOST_TEXTS, MOST_BYTES = 1024, 4 << 20


class Replica:
    """What a replica does with a request; Serve's decorators are put around it in `serve_app`.

    Args:
        model: what `aerogel.load` takes.
        threads: of the model.
        load_options: others of `aerogel.load`.
    """

    def __init__(self, model: str, threads: int, load_options: dict[str, Any]) -> None:
        from aerogel.engine.model import load

        self.name = os.path.basename(model.rstrip("/"))
        self.model: Model = load(model, threads, **load_options)
        if "embedding" not in self.model.outputs and len(self.model.labels) != 1:
            raise AerogelError(f"{model}: expected an embedding model or a reranker to serve")

    def embed_together(self, requests: Sequence[Sequence[str]]) -> list[list[list[float]]]:
        """The embeddings of several requests' texts, which are run at once."""
        rows = self.model.encode([text for request in requests for text in request]).tolist()
        ends = [0]
        for request in requests:
            ends.append(ends[-1] + len(request))
        return [rows[begin:end] for begin, end in zip(ends, ends[1:])]

    def rerank(self, query: str, documents: Sequence[str]) -> list[dict[str, Any]]:
        """The documents' places and scores, the best first."""
        return [{"index": row["corpus_id"], "score": row["score"]} for row in self.model.rank(query, documents)]

    async def answer(self, route: str, body: bytes) -> tuple[int, Any]:
        """The status and the JSON for a request.

        POST /embed {"inputs": text or texts}: [[numbers]]; POST /v1/embeddings {"input": ...}: as OpenAI's;
        POST /rerank {"query", "texts"}: [{"index", "score"}]; /health.
        """
        if route == "/health":
            return 200, {"model": self.name}
        if len(body) > MOST_BYTES:
            return 413, _error(f"expected a body of at most {MOST_BYTES} bytes, got {len(body)}")
        try:
            said = json.loads(body)
            if not isinstance(said, dict):
                raise DataError("expected a JSON object")
            if route == "/embed":
                return 200, await self.embed_request(_texts("inputs", said.get("inputs")))
            if route == "/v1/embeddings":
                rows = await self.embed_request(_texts("input", said.get("input")))
                data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
                return 200, {"object": "list", "model": self.name, "data": data}
            if route == "/rerank":
                [query] = texts("query", [said.get("query")])
                documents = _texts("texts", said.get("texts"))
                return 200, await asyncio.to_thread(self.rerank, query, documents)
            return 404, _error(f"expected /embed, /v1/embeddings, /rerank or /health, got {route}")
        except (ValueError, RecursionError) as error:
            return 400, _error(f"expected JSON: {error}")
        except AerogelError as error:
            return 422, _error(str(error))

    async def embed_request(self, request: Sequence[str]) -> list[list[float]]:
        """The embeddings of one request; Serve's batching stands in its place."""
        return (await asyncio.to_thread(self.embed_together, [request]))[0]


def _texts(name: str, value: Any) -> list[str]:
    found = texts(name, [value] if isinstance(value, str) else value)
    if len(found) > MOST_TEXTS:
        raise DataError(f"{name}: expected at most {MOST_TEXTS} texts, got {len(found)}")
    return found


def _error(text: str) -> dict[str, str]:
    return {"error": text}


def serve_app(
    model: str | os.PathLike[str],
    *,
    threads: int = 1,
    min_replicas: int = 1,
    max_replicas: int = 1,
    target_ongoing_requests: int = 4,
    max_ongoing_requests: int = 32,
    max_queued_requests: int = 256,
    max_batch_size: int = 32,
    batch_wait_seconds: float = 0.002,
    **load_options: Any,
) -> Any:
    """An application for `serve.run`: embeddings and scores by HTTP, with as many replicas as requests wait for.

    Requests that reach a replica together are embedded together. Routes: `Replica.answer`.

    Args:
        model: an embedding model or reranker that `aerogel.load` takes; it must be there on each machine.
        threads: of a replica, which asks Ray for as many CPUs.
        min_replicas: replicas that always run.
        max_replicas: the most replicas.
        target_ongoing_requests: requests at a replica, running and waiting, from which on there is another one.
        max_ongoing_requests: the most that a replica takes at once.
        max_queued_requests: requests that may wait; others get status 503 at once.
        max_batch_size: the most requests that are run together.
        batch_wait_seconds: how long a request waits for others.
        load_options: others of `aerogel.load`: quant, pooling ...

    Raises:
        AerogelError: an argument is wrong, or Ray Serve is not installed.
    """
    try:
        from ray import serve
        from starlette.requests import Request
        from starlette.responses import JSONResponse
    except ImportError as error:
        raise AerogelError(f"serving on many machines needs Ray Serve: pip install aerogel[ray] ({error})") from error
    place = path_like("model", model)
    place = os.path.abspath(place) if os.path.exists(place) else place
    count = whole_number("threads", threads, 1)
    least = whole_number("min_replicas", min_replicas, 0)

    class Served(Replica):
        @serve.batch(max_batch_size=max_batch_size, batch_wait_timeout_s=batch_wait_seconds)  # type: ignore[untyped-decorator]
        async def _batched(self, requests: list[Sequence[str]]) -> list[list[list[float]]]:
            return await asyncio.to_thread(self.embed_together, requests)

        async def embed_request(self, request: Sequence[str]) -> list[list[float]]:
            found: list[list[float]] = await self._batched(request)
            return found

        async def __call__(self, request: Any) -> Any:
            body = b""
            async for piece in request.stream():
                body += piece
                if len(body) > MOST_BYTES:
                    break
            status, said = await self.answer(request.url.path, body)
            return JSONResponse(said, status)

    Served.__call__.__annotations__["request"] = Request  # Serve hands over what the annotation says
    deployment = serve.deployment(
        Served,
        name="aerogel",
        ray_actor_options={"num_cpus": count},
        max_ongoing_requests=whole_number("max_ongoing_requests", max_ongoing_requests, 1),
        max_queued_requests=whole_number("max_queued_requests", max_queued_requests, 1),
        autoscaling_config={
            "min_replicas": least,
            "max_replicas": whole_number("max_replicas", max_replicas, max(1, least)),
            "target_ongoing_requests": whole_number("target_ongoing_requests", target_ongoing_requests, 1),
        },
        health_check_period_s=10,
    )
    return deployment.bind(place, count, load_options)


def serve_app_of(arguments: Mapping[str, Any]) -> Any:
    """`serve_app` for `serve run aerogel.ray:serve_app_of model=... threads=2` and for Serve's configuration files."""
    if "model" not in arguments:
        raise DataError("serve_app_of: expected an argument model, got none")
    options = dict(arguments)
    for name, value in options.items():
        if isinstance(value, str) and value.isdigit():  # the command line gives texts only
            options[name] = int(value)
    return serve_app(options.pop("model"), **options)

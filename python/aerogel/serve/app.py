"""The web application over a service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as Place

from aerogel.serve.anatomy import Anatomy
from aerogel.serve.bodies import answer, read
from aerogel.serve.events import while_listened_to
from aerogel.serve.failures import Failure, rendered
from aerogel.serve.guard import Guard
from aerogel.serve.info import card, info, listed
from aerogel.serve.openapi import document
from aerogel.serve.routes import Route, routes_for, style_of
from aerogel.serve.service import Service

#: Nothing from elsewhere: what a model writes is text to the page, whatever it says.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_MEDIA = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
#: The client has gone: nobody reads it, logs have it as others do.
_GONE = 499


def create_app(service: Service) -> Starlette:
    """The application, for any ASGI server. It closes the service's scheduler when it ends, after what it has accepted."""
    anatomy = Anatomy(service)
    routes = routes_for(next(iter(service.catalog.entries.values())).kind)
    described = document(routes, service.options.api_key is not None)

    async def about(request: Request) -> Any:
        return info(service, request.query_params.get("model"))

    async def models(_: Request) -> Any:
        return listed(service)

    async def model(request: Request) -> Any:
        return card(service, request.path_params["model"])

    async def explain(request: Request) -> Any:
        name = request.query_params.get("model")
        return await anatomy.of(service.catalog.named(name))

    async def openapi(_: Request) -> Any:
        return described

    async def metrics(_: Request) -> Any:
        return Response(service.counters.text(), media_type="text/plain; version=0.0.4")

    async def health(_: Request) -> Any:
        return Response(status_code=200)

    reads: Mapping[str, Callable[[Request], Awaitable[Any]]] = {
        "/info": about,
        "/v1/models": models,
        "/v1/models/{model:path}": model,
        "/explain": explain,
        "/openapi.json": openapi,
        "/metrics": metrics,
        "/health": health,
        "/ping": health,
        **{path: _page(file) for path, file in _pages().items()},
    }
    places = [Place(path, _reader(service, handler), methods=["GET"]) for path, handler in reads.items()]
    posts = [Place(route.path, _poster(service, route), methods=["POST"]) for route in routes]
    guards = [Middleware(Guard, options=service.options)]
    if service.options.cors:
        allowed = {"allow_origins": list(service.options.cors), "allow_methods": ["*"], "allow_headers": ["*"]}
        guards.insert(0, Middleware(CORSMiddleware, **allowed))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await service.scheduler.drain()
            service.scheduler.close()

    return Starlette(
        routes=[*places, *posts],
        middleware=guards,
        lifespan=lifespan,
        exception_handlers={HTTPException: _not_there},
    )


def _poster(service: Service, route: Route) -> Callable[[Request], Awaitable[Response]]:
    """What answers the requests of a route."""
    options = service.options

    async def respond(request: Request) -> Response:
        body = await read(request, route.kind, options.payload_limit, options.body_seconds)
        found = await while_listened_to(request.receive, route.handler(service, body))
        service.counters.add("te_request_success")
        return found if isinstance(found, Response) else answer(found)

    return _guarded(service, respond, route.style)


def _reader(service: Service, handler: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        found = await handler(request)
        return found if isinstance(found, Response) else answer(found)

    return _guarded(service, respond, None)


def _guarded(
    service: Service, respond: Callable[[Request], Awaitable[Response]], style: str | None
) -> Callable[[Request], Awaitable[Response]]:
    """The same; errors are failures in the words of the route's API."""

    async def guarded(request: Request) -> Response:
        try:
            return await respond(request)
        except ClientDisconnect:
            service.counters.add("te_request_failure", "err", "dropped")
            return Response(status_code=_GONE)
        except Exception as error:
            failure = service.explainer.failure(error)
            service.counters.add("te_request_failure", "err", failure.cause)
            status, body = rendered(failure, style or style_of(request.url.path))
            return answer(body, status, failure.headers)

    return guarded


async def _not_there(request: Request, error: Exception) -> Response:
    """No such path, or not by this method."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 405:
        failure = Failure("method", f"{request.method} is no method of this path")
    else:
        failure = Failure("route", "there is no such path")
    status, body = rendered(failure, style_of(path))
    return answer(body, status, dict(error.headers or {}))


def _pages() -> dict[str, Path]:
    """The page's files by the paths they are served at."""
    folder = Path(__file__).parent / "page"
    found = {f"/page/{file.name}": file for file in sorted(folder.iterdir()) if file.suffix in (".css", ".js", ".svg")}
    return {"/": folder / "index.html", "/docs": folder / "docs.html", **found}


def _page(file: Path) -> Callable[[Request], Awaitable[Response]]:
    data = file.read_bytes()  # once: a file that is replaced later is another version's

    async def page(_: Request) -> Response:
        return Response(data, headers=_PAGE_HEADERS, media_type=_MEDIA[file.suffix])

    return page

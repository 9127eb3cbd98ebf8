"""Who is answered: the key, and the names that the server goes by."""

from __future__ import annotations

import secrets

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from aerogel.serve.bodies import answer
from aerogel.serve.failures import Failure, rendered
from aerogel.serve.options import ServeOptions
from aerogel.serve.routes import style_of

#: Answered without the key (GET): they say nothing of the models.
_OPEN = ("/", "/health", "/ping", "/docs", "/openapi.json")


class Guard:
    """Lets those requests through that may be answered.

    Args:
        app: what answers.
        options: the key and the hosts.
    """

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self._app = app
        self._key = None if options.api_key is None else options.api_key.encode()
        self._hosts = frozenset(host.lower() for host in options.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        failure = self._refused(scope)
        if failure is None:
            await self._app(scope, receive, send)
            return
        status, body = rendered(failure, style_of(scope["path"]))
        await answer(body, status, failure.headers)(scope, receive, send)

    def _refused(self, scope: Scope) -> Failure | None:
        headers = Headers(scope=scope)
        if self._hosts and _host(headers.get("host", "")) not in self._hosts:
            return Failure("host", "the header Host names another server")
        if self._key is None or scope["method"] == "OPTIONS":
            return None
        if scope["method"] in ("GET", "HEAD") and (scope["path"] in _OPEN or scope["path"].startswith("/page/")):
            return None
        kind, _, key = headers.get("authorization", "").partition(" ")
        # Bytes, as they came: headers are read as Latin-1.
        if kind.lower() == "bearer" and secrets.compare_digest(key.strip().encode("latin-1", "replace"), self._key):
            return None
        return Failure("key", "Incorrect API key provided" if key else "You didn't provide an API key")


def _host(said: str) -> str:
    """The host without its port."""
    said = said.strip().lower()
    if said.startswith("["):
        return said.partition("]")[0] + "]"
    return said.partition(":")[0]

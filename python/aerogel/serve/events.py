"""Answers that come in parts: server-sent events, and what ends them when nobody listens any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from aerogel.serve.bodies import encoded

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    """A value as one event."""
    return b"data: " + encoded(value) + b"\n\n"


async def _gone(receive: Callable[[], Awaitable[Any]]) -> None:
    """Ends when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_listened_to(receive: Callable[[], Awaitable[Any]], work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; it is cancelled when the client goes.

    Raises:
        ClientDisconnect: it has gone.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        # Until it has let go of what it holds: the step that runs is the last that it takes part in.
        await asyncio.gather(task, gone, return_exceptions=True)


class Events(Response):
    """Server-sent events of a running generation.

    Args:
        parts: the events, encoded.
        explain: makes the event of an error that comes when the status is sent already.
    """

    media_type = "text/event-stream"

    def __init__(self, parts: AsyncIterator[bytes], explain: Callable[[Exception], bytes]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._parts, self._explain = parts, explain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(ClientDisconnect):
            await while_listened_to(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for part in self._parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except Exception as error:
            await send({"type": "http.response.body", "body": self._explain(error), "more_body": True})
        finally:
            await _closed(self._parts)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def begun(parts: AsyncIterator[T]) -> AsyncIterator[T]:
    """The same parts, when the first is there: what fails before it can still have a status of its own."""
    try:
        first = await parts.__anext__()
    except StopAsyncIteration:
        return _chained(None, parts)
    except BaseException:
        await _closed(parts)
        raise
    return _chained(first, parts)


async def _chained(first: T | None, parts: AsyncIterator[T]) -> AsyncIterator[T]:
    async with closing(parts):
        if first is not None:
            yield first
            async for part in parts:
                yield part


@contextlib.asynccontextmanager
async def closing(parts: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Closes an iterator at the end, if it can be."""
    try:
        yield parts
    finally:
        await _closed(parts)


async def _closed(parts: AsyncIterator[Any]) -> None:
    close = getattr(parts, "aclose", None)
    if close is not None:
        await close()

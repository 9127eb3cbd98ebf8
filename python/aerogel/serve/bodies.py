"""Requests' bodies in, JSON out."""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypeVar

import msgspec
import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response

from aerogel.serve.failures import Failure

T = TypeVar("T")


async def read(request: Request, kind: type[T], limit: int, seconds: float) -> T:
    """The body of a request as a `kind`.

    Raises:
        Failure: it is larger than `limit` bytes, takes longer than `seconds`, is not JSON, or of another shape.
    """
    said = request.headers.get("content-type", "")
    if said.partition(";")[0].strip().lower() != "application/json":
        # Also what keeps forms of other sites out: a browser asks before it sends JSON to a stranger.
        raise Failure("media", "Expected request with `Content-Type: application/json`")
    try:
        data = await asyncio.wait_for(_bytes(request, limit), seconds)
    except asyncio.TimeoutError:
        raise Failure("slow", f"the body has not come within {seconds:g} seconds") from None
    return decoded(data, kind)


async def _bytes(request: Request, limit: int) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and len(length) < 20 and int(length) > limit:
        raise Failure("large", f"the body has {length} bytes, expected at most {limit}")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise Failure("large", f"the body has more than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


def decoded(data: bytes, kind: type[T]) -> T:
    """JSON as a `kind`."""
    try:
        data.decode("utf-8")
        found: T = msgspec.json.decode(data, type=kind)
        return found
    except msgspec.ValidationError as error:
        place = re.search(r"`\$\.([^`.\[]+)", str(error))
        raise Failure("type", f"Failed to deserialize the JSON body: {error}", place and place[1]) from None
    except (msgspec.DecodeError, ValueError):
        raise Failure("syntax", "Failed to parse the request body as JSON") from None
    except RecursionError:
        raise Failure("syntax", "the JSON of the request body has too many levels") from None


def encoded(value: Any) -> bytes:
    """JSON of plain values; rows of float32 stand in it with as many digits as a float32 has."""
    return bytes(orjson.dumps(value, _plain, orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS))


def _plain(value: Any) -> Any:
    """What orjson does not know: arrays whose numbers do not lie one behind the other."""
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value)
    raise TypeError(f"no JSON of {type(value).__name__}")


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(encoded(value), status, headers, "application/json")

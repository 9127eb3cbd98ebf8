"""An ASGI client of a few lines: one request, answered by the application in this process."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def events(self):
        """The events of a stream; [DONE] has to end it."""
        lines = [line.removeprefix("data: ") for line in self.body.decode().split("\n\n") if line]
        assert lines.pop() == "[DONE]"
        return [json.loads(line) for line in lines]


async def ask(app, method, path, body=None, headers=None, leave_after=None):
    """`body`: bytes, or what is sent as JSON; `leave_after`: the client goes after so many parts of the answer."""
    path, _, query = path.partition("?")
    sent = {"host": "localhost", **({} if body is None else {"content-type": "application/json"}), **(headers or {})}
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in sent.items()],
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
    }
    parts, gone, requests, found = [], asyncio.Event(), [data], {}

    async def receive():
        if requests:
            return {"type": "http.request", "body": requests.pop(), "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            found["status"] = message["status"]
            found["headers"] = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            parts.append(message.get("body", b""))
        if leave_after is not None and len(parts) >= leave_after:
            gone.set()

    if leave_after == 0:
        asyncio.get_running_loop().call_later(0.05, gone.set)
    await app(scope, receive, send)
    return Answer(found["status"], found["headers"], b"".join(parts))


def post(app, path, body, **options):
    return asyncio.run(ask(app, "POST", path, body, **options))


def get(app, path, **options):
    return asyncio.run(ask(app, "GET", path, **options))

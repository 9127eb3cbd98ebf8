"""The clients of benchmarks/overload.py: HTTP of a few lines over asyncio, and what each kind of client does and checks."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np

#: What the answer of a request may be called: right, refused in time, given up in time; the rest is a fault.
RIGHT, REFUSED, LATE, GONE, CUT = "right", "refused", "late", "gone", "cut by the kill"
#: How far a number of an answer may be from the one computed here.
CLOSE = 2e-6


class Wrong(Exception):
    """An answer that should not have been given."""


@dataclass(frozen=True)
class Question:
    """What is asked, and what must be answered."""

    kind: str
    path: str
    body: dict
    expected: object


class Connection:
    """One request over one connection."""

    def __init__(self, port: int, receive_bytes: int | None = None) -> None:
        self._port, self._receive_bytes = port, receive_bytes

    async def __aenter__(self) -> Connection:
        where = socket.socket()
        if self._receive_bytes is not None:
            where.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes)
        where.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(where, ("127.0.0.1", self._port))
        except BaseException:
            where.close()
            raise
        limit = 2**16 if self._receive_bytes is None else self._receive_bytes
        self.reader, self.writer = await asyncio.open_connection(sock=where, limit=limit)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    def send(self, path: str, body: bytes, method: str = "POST") -> None:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.writer.write(head.encode() + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers."""
        line = await self.reader.readuntil(b"\r\n")
        status, headers = int(line.split()[1]), {}
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return status, headers

    async def body(self, headers: dict[str, str]) -> bytes:
        """All of it."""
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        return b"".join([part async for part in self.parts()])

    async def parts(self, trickle: float = 0.0) -> AsyncIterator[bytes]:
        """The chunks of a body; `trickle`: seconds of rest behind each, for a client that reads slowly."""
        while True:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            part = await self.reader.readexactly(size + 2)
            if not size:
                return
            yield part[:-2]
            if trickle:
                await asyncio.sleep(trickle)


async def post(port: int, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Asks once."""
    async with Connection(port) as connection:
        connection.send(path, body)
        status, headers = await connection.head()
        return status, headers, await connection.body(headers)


async def get(port: int, path: str) -> bytes:
    """Reads a page."""
    async with Connection(port) as connection:
        connection.send(path, b"", "GET")
        _, headers = await connection.head()
        return await connection.body(headers)


def not_done(status: int, headers: dict[str, str], body: bytes) -> str | None:
    """What it is called where the server has said, as it should, that it will not do it."""
    if status == 429:
        if float(headers.get("retry-after", 0)) <= 0:
            raise Wrong("429 without Retry-After")
        return REFUSED
    if status == 504:
        return LATE
    if status != 200:
        raise Wrong(f"{status}: {body[:200]!r}")
    return None


async def plain(port: int, question: Question) -> str:
    """Asks, reads and compares."""
    status, headers, body = await post(port, question.path, json.dumps(question.body).encode())
    outcome = not_done(status, headers, body)
    if outcome is None:
        check(question, json.loads(body))
    return outcome or RIGHT


def check(question: Question, answer: object) -> None:
    """Raises Wrong where an answer is not that of this question."""
    if question.kind == "rerank":
        if len({one["index"] for one in answer}) != len(question.expected):
            raise Wrong("scores are lost or said twice")
        found = np.zeros(len(question.expected))
        for one in answer:
            found[one["index"]] = one["score"]
    else:
        found = np.array(answer)
    if found.shape != question.expected.shape:
        raise Wrong(f"expected {question.expected.shape} numbers, got {found.shape}")
    if (far := np.abs(found - question.expected).max()) > CLOSE:
        raise Wrong(f"the answer is not that of this request: {far:.2g} away")


async def stream(port: int, question: Question, trickle: float = 0.0, leave: int | None = None) -> str:
    """Reads a chat as it is written; `leave`: goes after so many events."""
    async with Connection(port, 2048 if trickle else None) as connection:
        connection.send(question.path, json.dumps(question.body).encode())
        if leave == 0:
            await asyncio.sleep(random.uniform(0, 0.1))
            return GONE
        status, headers = await connection.head()
        if status != 200:
            return not_done(status, headers, await connection.body(headers)) or RIGHT
        text, names, finish, ended, rest, count = "", set(), None, False, b"", 0
        async for part in connection.parts(trickle):
            *events, rest = (rest + part).split(b"\n\n")
            for event in events:
                data = event.removeprefix(b"data: ")
                if ended or finish and data != b"[DONE]":
                    raise Wrong("something comes behind the end of a stream")
                ended = data == b"[DONE]"
                if ended:
                    continue
                said = json.loads(data)
                if "error" in said:
                    if not question.expected.startswith(text) or "timeout" not in said["error"]["message"]:
                        raise Wrong(f"a stream ends by {said}")
                    return LATE
                names.add(said["id"])
                text += said["choices"][0]["delta"].get("content") or ""
                finish = said["choices"][0]["finish_reason"]
                count += 1
            if leave is not None and count >= leave:
                return GONE
    if not ended or finish is None or len(names) != 1:
        raise Wrong("a stream without its end, or of two answers")
    if text != question.expected:
        raise Wrong(f"the stream is not that of this request: {text[:80]!r}")
    return RIGHT


async def dropped(port: int, question: Question) -> str:
    """Asks, and goes before the answer."""
    async with Connection(port) as connection:
        connection.send(question.path, json.dumps(question.body).encode())
        await connection.writer.drain()
        await asyncio.sleep(random.uniform(0, 0.3))
    return GONE


#: Bodies that no route can make sense of, and their statuses.
MALFORMED: Sequence[tuple[str, bytes, tuple[int, ...]]] = (
    ("/embed", b"", (400,)),
    ("/embed", b"{", (400, 422)),
    ("/embed", b'{"inputs": 3}', (400, 422)),
    ("/embed", b'{"inputs": [' + b"[" * 5000, (400, 422)),
    ("/embed", b'{"inputs": []}', (400,)),
    ("/v1/embeddings", b'{"input": "a", "model": "nobody"}', (404,)),
    ("/v1/embeddings", b'{"input": [99999999]}', (400, 422)),
    ("/v1/chat/completions", b'{"messages": "hello"}', (400, 422)),
    ("/v1/chat/completions", b'{"messages": [], "n": -4}', (400, 422)),
    ("/rerank", b"\xff\xfe\x00", (400, 422)),
    ("/embed", b'{"inputs": "' + b"x" * 2_100_000 + b'"}', (413,)),
)


async def malformed(port: int) -> str:
    """A body of no sense gets a status that says so."""
    path, body, statuses = random.choice(MALFORMED)
    async with Connection(port) as connection:
        connection.send(path, body)
        try:
            status, headers = await connection.head()
        except ConnectionResetError:  # what is too large need not be read to its end
            if len(body) < 2_000_000:
                raise
            return RIGHT
    if status != 429 and status not in statuses:
        raise Wrong(f"{path} {body[:40]!r}: expected one of {statuses}, got {status}")
    return RIGHT


async def bad_headers(port: int) -> str:
    """Headers that never end, by size or by time: the server answers 400, or hangs up."""
    async with Connection(port) as connection:
        try:
            if random.random() < 0.5:
                connection.writer.write(b"GET /health HTTP/1.1\r\nX: " + b"x" * 300_000)
            else:
                for byte in b"GET /health HTTP/1.1":
                    if connection.reader.at_eof():
                        break
                    connection.writer.write(bytes([byte]))
                    await asyncio.sleep(0.7)  # 14 seconds for the first line
            found = await connection.reader.read(100)
        except ConnectionError:
            return RIGHT
    if found and b" 400 " not in found:
        raise Wrong(f"endless headers were answered: {found!r}")
    return RIGHT

"""Servers that take turns, each a process that is stopped while others are measured; and clients that wait for answers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


class Server:
    """A process that serves at a port of 127.0.0.1.

    Args:
        name: what it is called in the table.
        command: what starts it.
        ready: a pattern of the line that it says when it serves; the group in it is the port.
        environment: beside this process's.
        patience: seconds until it has to serve.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        ready: str,
        environment: dict[str, str] | None = None,
        patience: float = 300.0,
    ) -> None:
        self.name = name
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **(environment or {})},
        )
        self._said: deque[str] = deque(maxlen=20)
        late = threading.Timer(patience, self.process.kill)
        late.start()
        try:
            self.port = self._started(re.compile(ready))
        finally:
            late.cancel()
        threading.Thread(target=self._read, daemon=True).start()  # a full pipe would stop it

    def _started(self, ready: re.Pattern[str]) -> int:
        for line in self.process.stdout or ():
            self._said.append(line)
            if found := ready.search(line):
                return int(found[1])
        raise SystemExit(f"{self.name}: it ended with {self.process.wait()}\n{''.join(self._said)}")

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._said.append(line)

    def __enter__(self) -> Server:
        """It runs, until the end of the block."""
        self.process.send_signal(signal.SIGCONT)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def cpu_seconds(self) -> float:
        """What it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()


@dataclass
class Round:
    """What the clients of a round have seen.

    Attributes:
        seconds: from the first request to the last answer.
        times: seconds of each request.
        answers: which body was asked, and what was answered.
    """

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    answers: list[tuple[int, bytes]] = field(default_factory=list)


class _Client(asyncio.Protocol):
    """Asks, and asks again when it is answered. It parses no bodies: clients share the processors with the server."""

    def __init__(self, requests: Sequence[tuple[int, bytes]], end: float, found: Round) -> None:
        self._requests, self._end, self._round = requests, end, found
        self._next, self._data, self._asked = 0, bytearray(), 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._requests[self._next % len(self._requests)][1])  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._data += data
        head = self._data.find(b"\r\n\r\n")
        if head < 0:
            return
        length = re.search(rb"content-length: *(\d+)", self._data[:head], re.IGNORECASE)
        if length is None or not self._data.startswith(b"HTTP/1.1 200"):
            self._fail(bytes(self._data[:300]))
        elif len(self._data) >= head + 4 + int(length[1]):
            now = time.perf_counter()
            self._round.times.append(now - self._asked)
            number = self._requests[self._next % len(self._requests)][0]
            self._round.answers.append((number, bytes(self._data[head + 4 :])))
            self._data.clear()
            self._next += 1
            if now < self._end:
                self._ask()
            else:
                self.done.set_result(None)
                self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._fail(b"the connection ended")

    def _fail(self, why: bytes) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"not answered: {why!r}"))


def request(path: str, body: bytes) -> bytes:
    """As it is sent."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


async def asked(port: int, path: str, bodies: Sequence[bytes], clients: int, seconds: float) -> Round:
    """Clients that each keep a connection, share the bodies out among them, and ask until it is time."""
    loop, found, start = asyncio.get_running_loop(), Round(), time.perf_counter()
    numbered = [(number, request(path, body)) for number, body in enumerate(bodies)]
    made = []
    for client in range(clients):
        own = numbered[client::clients] or numbered
        made.append(
            await loop.create_connection(
                lambda own=own: _Client(own, start + seconds, found),  # type: ignore[misc]
                "127.0.0.1",
                port,
            )
        )
    await asyncio.gather(*(protocol.done for _, protocol in made))
    found.seconds = time.perf_counter() - start
    return found

"""The process: sockets, signals, and time limits that are not a request's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from aerogel.errors import AerogelError

#: Connections that wait to be taken.
_BACKLOG = 512
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Protocol(H11Protocol):
    """HTTP/1.1, without those who open a connection and send their headers slowly, or none, and those who ask for an answer
    and do not read it."""

    header_seconds = 10.0
    #: Within them somebody must take what uvicorn holds for him, some 64 KB; the system's own buffers come before that.
    read_seconds = 60.0

    def connection_made(self, transport: Any) -> None:
        self._waiting: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        idle = self.cycle is None or self.cycle.response_complete
        if not idle:
            self._stop()
        elif self._waiting is None:
            self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_read()

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self._is_read()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.header_seconds, self._give_up)

    def _stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class _Server(uvicorn.Server):
    """One that says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it there."""
    return host in _LOOPBACK or host.startswith("127.")


def hosts_of(host: str, uds: str | None) -> tuple[str, ...]:
    """The names that a server goes by that only this machine can reach; none: any, as a network has others for it."""
    return (host, "localhost", "127.0.0.1", "[::1]") if uds is None and is_loopback(host) else ()


def listening(host: str, port: int, uds: str | None) -> tuple[socket.socket, str]:
    """A socket that listens, and its address for people.

    Args:
        host, port: where; port 0: any that is free.
        uds: the path of a Unix socket instead: only this user may connect.

    Raises:
        AerogelError: that is not possible.
    """
    try:
        if uds is not None:
            return _unix(Path(uds)), f"unix:{uds}"
        [(family, *_, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(_BACKLOG)
        shown = f"[{host}]" if ":" in host else host
        return found, f"http://{shown}:{found.getsockname()[1]}"
    except (OSError, OverflowError) as error:
        raise AerogelError(f"cannot listen on {uds or f'{host} port {port}'}: {error}") from error


def _unix(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):  # one that a killed server has left; who answers there keeps it
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(path)) == 0:
                    raise OSError("another server listens there")
            path.unlink()
    found = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        found.bind(str(path))
    finally:
        os.umask(before)
    found.listen(_BACKLOG)
    return found


def run(
    app: Starlette,
    where: socket.socket,
    ready: Callable[[], None],
    drain_seconds: float,
    header_seconds: float = 10.0,
    read_seconds: float = 60.0,
) -> None:
    """Serves until SIGTERM or SIGINT: then nothing new is taken, and what was accepted is answered, within
    `drain_seconds`. Headers have to come within `header_seconds`, and who takes nothing of his answer for `read_seconds` is
    sent away."""
    limits = {"header_seconds": header_seconds, "read_seconds": read_seconds}
    config = uvicorn.Config(
        app,
        http=type("Protocol", (_Protocol,), limits),
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=max(1, int(drain_seconds)),
    )
    server = _Server(config, ready)
    path = where.getsockname() if where.family == socket.AF_UNIX else None
    try:
        server.run(sockets=[where])
    except KeyboardInterrupt:
        pass
    except SystemExit as end:  # the signal once more, behind the drain
        if end.code != 128 + signal.SIGTERM:
            raise
    finally:
        where.close()
        if path is not None:
            with contextlib.suppress(OSError):
                os.unlink(path)

"""The sessions of a model that nobody is using: kept for the next caller, within bounds."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from aerogel._core import Plan, Session, release_memory

#: As what a session can keep keys and values.
KV_CACHES = ("float32", "float16", "int8")

#: Bytes that all idle sessions of a model may keep. Beyond it memory is taken anew in each call: little beside what calls
#: of that size compute.
KEPT_BYTES = 64 << 20

#: Seconds after which an idle session that no caller has needed is given up.
KEPT_SECONDS = 10.0

#: Bytes given back by a call that are worth asking the C library to return them to the system.
_WORTH_RETURNING = 8 << 20


class _Idle(NamedTuple):
    since: float
    nbytes: int
    session: Session


class Sessions:
    """Hands out sessions, each to one caller at a time.

    The one that was returned last goes out first: a steady load keeps as many as it uses at once, and those that a burst has
    left over come to lie at the other end, where the next calls give them up.

    There is no lock that a fork could leave closed: each operation on the deque is atomic.
    """

    def __init__(self, kv_cache: str = "float32") -> None:
        self._kv_cache = kv_cache  # as what keys and values are kept
        self._idle: deque[_Idle] = deque()  # the one that was returned last is the last

    def __len__(self) -> int:
        """How many are idle."""
        return len(self._idle)

    @contextlib.contextmanager
    def take(self, plan: Plan) -> Iterator[Session]:
        """A session that is this caller's own until the block ends."""
        try:
            session = self._idle.pop().session
        except IndexError:
            session = Session(plan, self._kv_cache)
        try:
            yield session
        finally:
            freed = session.shrink(KEPT_BYTES)
            self._idle.append(_Idle(time.monotonic(), session.nbytes, session))
            freed += self._drop()
            if freed > _WORTH_RETURNING:
                release_memory()

    def clear(self) -> None:
        """Gives all of them up."""
        self._idle.clear()
        release_memory()

    def _drop(self) -> int:
        """Gives up the oldest while they hold too much or nobody has needed them for long; returns their bytes."""
        now, freed = time.monotonic(), 0
        while True:
            idle = list(self._idle)
            if sum(one.nbytes for one in idle) <= KEPT_BYTES and (not idle or now - idle[0].since < KEPT_SECONDS):
                return freed
            with contextlib.suppress(IndexError):  # another caller was faster
                freed += self._idle.popleft().nbytes

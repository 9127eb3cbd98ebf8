"""Independent pieces of NumPy work side by side, a thread each.

BLAS libraries can share one product among threads, but in the products of calibration, many and not large, threads wait for
each other: on two cores OpenBLAS takes half as much CPU time again with two threads as with one. So every worker multiplies
alone, and BLAS is told so by threadpoolctl while workers are there (NumPy itself cannot). Then sums do not depend on how
many there are either: pieces are cut the same on any number, and come back in their order.

Where BLAS takes no orders (Apple's Accelerate), everything works, with as many threads as that likes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from threadpoolctl import threadpool_limits

from aerogel.errors import AerogelError

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Team:
    """A pool, and how many pieces of work it has at a time."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="aerogel-work")


#: Of this thread; a piece of work that has pieces of its own does them itself.
_team: ContextVar[_Team | None] = ContextVar("aerogel_workers", default=None)
_lock = threading.Lock()
_limits: threadpool_limits | None = None


@contextmanager
def workers(threads: int) -> Iterator[None]:
    """So many threads for `side_by_side`, and BLAS on one thread in the whole process; where several overlap in time,
    until the first of them is left. Inside another one: does nothing."""
    if _team.get() is not None:
        yield
        return
    with _one_thread_each():
        team = _Team(threads)
        token = _team.set(team)
        try:
            yield
        finally:
            _team.reset(token)
            team.pool.shutdown(wait=True, cancel_futures=True)


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What `function` makes of each item, in their order; of one after the other outside `workers`.

    Few more than are being worked on are finished and wait, so results may be large.
    """
    team = _team.get()
    if team is None or team.threads == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            if len(waiting) > team.threads:
                yield waiting.popleft().result()
            try:
                waiting.append(team.pool.submit(function, item))
            except RuntimeError as error:  # a limit of the system or of a container
                raise AerogelError(f"threads: the system starts none of {team.threads}: {error}") from error
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def each(function: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Runs `function` on every item."""
    for _ in side_by_side(function, items):
        pass


def cut(length: int, piece: int) -> Sequence[slice]:
    """Slices of `piece`, the last one shorter."""
    return [slice(begin, min(begin + piece, length)) for begin in range(0, length, piece)]


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """The first one in sets the limit, and takes it back as it leaves, whoever else is there: with some versions of OpenBLAS
    and threadpoolctl what a thread has set only the same thread can take back."""
    global _limits
    with _lock:
        mine = _limits is None
        if mine:
            _limits = threadpool_limits(1, user_api="blas")
    try:
        yield
    finally:
        if mine:
            with _lock:
                assert _limits is not None
                _limits.restore_original_limits()
                _limits = None

"""Whose turn it is: what of the requests that are there goes into the next step."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol

from aerogel.engine.scheduling.pace import Room


class Turn(Protocol):
    """A request as it takes part.

    Attributes:
        lane: where its sequences are run.
        priority: those of a higher one go first.
        served: the last step in which it had a part; None: none yet.
        number: they are numbered as they came.
        waiting: tokens that it has not run yet.
    """

    priority: int
    served: int | None
    number: int
    waiting: int

    @property
    def lane(self) -> Hashable:
        """See above."""
        ...

    def piece(self) -> int:
        """Tokens of the next part that cannot be made smaller; 0: it has nothing to run now."""
        ...

    def take(self) -> None:
        """That part goes into the step."""
        ...


def deal(requests: Iterable[Turn], room: Room, step: int) -> None:
    """Fills a step, one piece after another.

    Of the highest priority that has anything to run: first, whether they fit or not, the request that was served longest
    ago; of those that never were, the one that came first and the shortest. So nothing keeps the others out, neither long
    requests nor many new ones. Then the other new ones, short ones first; then all in turn, until nothing fits. Lower
    priorities have what room is left.
    """
    ready = [request for request in requests if request.piece()]
    first = True
    for priority in sorted({request.priority for request in ready}, reverse=True):
        _deal_one([request for request in ready if request.priority == priority], room, step, first)
        first = False


def _deal_one(ready: Sequence[Turn], room: Room, step: int, must: bool) -> None:
    fresh = sorted((one for one in ready if one.served is None), key=lambda one: (one.waiting, one.number))
    others = [one for one in ready if one.served is not None]
    ring = sorted(others, key=lambda one: (one.served or 0, one.number))
    oldest = sorted(fresh, key=lambda one: one.number)[:1]
    for request in [*ring[:1], *oldest, *(one for one in fresh[:1] if one not in oldest)]:
        if must or room.fits(request.lane, request.piece()):
            _give(request, room, step)
    for request in fresh:
        if request.served is None and room.fits(request.lane, request.piece()):
            _give(request, room, step)
    turns = [*ring[1:], *ring[:1], *fresh]
    while turns:
        turns = [one for one in turns if one.piece() and room.fits(one.lane, one.piece())]
        for request in turns:
            if room.fits(request.lane, request.piece()):
                _give(request, room, step)


def _give(request: Turn, room: Room, step: int) -> None:
    room.use(request.lane, request.piece())
    request.take()
    request.served = step

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
    """

    priority: int
    served: int | None
    number: int

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

    Of the highest priority that has anything to run: first the request that was served longest ago and the one that came
    first of those that never were, whether they fit or not, so that neither new nor long ones can keep the others out. Then
    new ones, in the order in which they came; then all in turn, until nothing fits. Lower priorities have what room is left.
    """
    ready = [request for request in requests if request.piece()]
    first = True
    for priority in sorted({request.priority for request in ready}, reverse=True):
        _deal_one([request for request in ready if request.priority == priority], room, step, first)
        first = False


def _deal_one(ready: Sequence[Turn], room: Room, step: int, must: bool) -> None:
    fresh = sorted((one for one in ready if one.served is None), key=lambda one: one.number)
    others = [one for one in ready if one.served is not None]
    ring = sorted(others, key=lambda one: (one.served or 0, one.number))
    due = [*ring[:1], *fresh[:1]]
    for request in due:
        if must or room.fits(request.lane, request.piece()):
            _give(request, room, step)
    for request in fresh[1:]:
        if room.fits(request.lane, request.piece()):
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

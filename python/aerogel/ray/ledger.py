"""Which parts are to be done, and how often a worker was lost over each."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from aerogel.errors import AerogelError
from aerogel.ray.parts import Part


class Ledger:
    """Parts in their order; those that were lost come first.

    Args:
        parts: what is to be done.
        retries: how often a part is tried again when its worker is lost.
    """

    def __init__(self, parts: Iterable[Part], retries: int) -> None:
        self._waiting = deque(parts)
        self._retries = retries
        self._lost: Counter[str] = Counter()
        self._starts_lost = 0

    def __len__(self) -> int:
        """Parts that nobody has."""
        return len(self._waiting)

    def take(self) -> Part | None:
        """The next part, for a worker that is free; None where there is no more."""
        return self._waiting.popleft() if self._waiting else None

    def lost(self, part: Part, why: str) -> None:
        """A worker was lost with a part: somebody else gets it.

        Raises:
            AerogelError: that has happened too often to this one.
        """
        self._lost[part.name] += 1
        if self._lost[part.name] > self._retries:
            times = self._lost[part.name]
            raise AerogelError(f"{part.name}: {times} workers were lost over it, the last one: {why}")
        self._waiting.appendleft(part)

    def started(self) -> None:
        """A worker has loaded its model."""
        self._starts_lost = 0

    def start_lost(self, why: str) -> None:
        """A worker was lost before it had loaded its model.

        Raises:
            AerogelError: that has happened too often, and to no worker otherwise since.
        """
        self._starts_lost += 1
        if self._starts_lost > self._retries:
            raise AerogelError(f"{self._starts_lost} workers were lost while they started, the last one: {why}")

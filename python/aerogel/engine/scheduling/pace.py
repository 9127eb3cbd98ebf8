"""How long a model's passes take, learned from those that were run; and how much fits into a step."""

from __future__ import annotations

from collections.abc import Hashable

#: A step may have so many tokens however slow the model is: fewer would not use its kernels well.
LEAST_TOKENS = 128
#: Passes of fewer tokens say what a pass takes at the least: there the weights are read, however few tokens there are.
SMALL = 64
#: How much the newest pass counts among those before it.
_NEW = 0.2


class Pace:
    """The time of one model's passes: the longer one of what reading its weights takes, and so much a token."""

    def __init__(self) -> None:
        self._least = 0.0
        self._token: float | None = None

    def add(self, tokens: int, seconds: float) -> None:
        """A pass of so many tokens has taken so long."""
        if tokens < SMALL:
            self._least = _mixed(self._least or None, seconds)
        else:
            self._token = _mixed(self._token, seconds / tokens)

    def seconds(self, tokens: int) -> float | None:
        """How long a pass may take; None: not known yet."""
        if not tokens:
            return 0.0
        if self._token is None:
            return self._least if tokens < SMALL and self._least else None
        return max(self._least, tokens * self._token)


def _mixed(old: float | None, new: float) -> float:
    return new if old is None else old + _NEW * (new - old)


class Room:
    """What is left of a step's tokens and time.

    Args:
        tokens: the most tokens of the step.
        seconds: about how long it may take; None: any time.
        paces: what is known of each lane's passes.
    """

    def __init__(self, tokens: int, seconds: float | None, paces: dict[Hashable, Pace]) -> None:
        self._tokens, self._seconds, self._paces = tokens, seconds, paces
        self._used: dict[Hashable, int] = {}

    @property
    def used(self) -> int:
        """Tokens that are in the step."""
        return sum(self._used.values())

    def fits(self, lane: Hashable, tokens: int) -> bool:
        """Whether so many tokens more of a lane keep to both limits."""
        total = self.used + tokens
        if total > self._tokens:
            return False
        if self._seconds is None or total <= LEAST_TOKENS:
            return True
        times = [self._time(one, used) for one, used in self._used.items() if one != lane]
        times.append(self._time(lane, self._used.get(lane, 0) + tokens))
        return None not in times and sum(time for time in times if time) <= self._seconds

    def use(self, lane: Hashable, tokens: int) -> None:
        """Takes so many tokens of a lane into the step."""
        self._used[lane] = self._used.get(lane, 0) + tokens

    def _time(self, lane: Hashable, tokens: int) -> float | None:
        pace = self._paces.get(lane)
        return None if pace is None else pace.seconds(tokens)

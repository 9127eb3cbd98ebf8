"""How a run is laid out over its budget: sparsity, learning rate, and the clock that drives both.

Everything follows one number, progress, from 0 at the first step to 1 at the end. With a budget of steps it is
step / steps, and a run can be repeated to the bit; with one of minutes it is the time that was trained, so a run ends on
time whatever the machine is busy with; pruning and writing snapshots come on top.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aerogel.errors import RecipeError
from aerogel.prune import cubic


@dataclass(frozen=True)
class Stage:
    """Prune to `sparsity` once progress has come to `begin`."""

    begin: float
    sparsity: float


def stages(count: int, initial: float, final: float, until: float) -> list[Stage]:
    """`count` prunings evenly over progress 0..until, on the cubic curve: the first at once, the last to `final`."""
    if count < 1:
        raise RecipeError(f"stages: expected at least 1, got {count}")
    if not 0 <= until <= 1:
        raise RecipeError(f"prune_until: expected a fraction from 0 to 1, got {until}")
    last = max(1, count - 1)
    return [Stage(until * (i / last), cubic((i + 1) / count, initial, final)) for i in range(count)]


def learning_rate(progress: float, peak: float, warmup: float, floor: float = 0.0) -> float:
    """Linear from 0 to `peak` over progress 0..warmup, then a cosine down to `floor` * peak at 1."""
    if progress < warmup:
        return peak * max(progress, 0.0) / warmup
    rest = min(1.0, (progress - warmup) / (1 - warmup)) if warmup < 1 else 1.0
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * rest)))


class Clock:
    """Progress through a budget of steps, of minutes, or of both (whichever is used up first)."""

    def __init__(
        self, steps: int | None = None, minutes: float | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        if steps is None and minutes is None:
            raise RecipeError("budget: expected steps or minutes, got neither")
        if steps is not None and steps < 1:
            raise RecipeError(f"steps: expected at least 1, got {steps}")
        if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
            raise RecipeError(f"minutes: expected more than 0, got {minutes}")
        self.step = 0
        self._steps, self._seconds, self._now = steps, None if minutes is None else 60 * minutes, now
        self._before, self._start = 0.0, now()

    @property
    def elapsed(self) -> float:
        """Seconds used, those before a resume included."""
        return self._before + self._now() - self._start

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        used = [0.0]
        if self._steps is not None:
            used.append(self.step / self._steps)
        if self._seconds is not None:
            used.append(self.elapsed / self._seconds)
        return min(1.0, max(used))

    def begin(self) -> None:
        """Starts to count now: what came before was no training."""
        self._start = self._now()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What is done inside is not counted."""
        at = self._now()
        try:
            yield
        finally:
            self._start += self._now() - at

    def resume(self, step: int, elapsed: float) -> None:
        """Goes on from there."""
        self.step, self._before, self._start = step, elapsed, self._now()

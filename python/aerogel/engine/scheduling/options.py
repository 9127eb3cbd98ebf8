"""How a scheduler works."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from aerogel._util.checks import flag, function, number, whole_number
from aerogel.engine.scheduling.metrics import Finished, Step


@dataclass(frozen=True)
class SchedulerOptions:
    """How a scheduler works.

    Attributes:
        max_batch_tokens: the most tokens of a step, but for a sequence that has more by itself.
        step_seconds: about how long a step may take: fewer tokens are taken where a model is slow, by what its steps have
            taken so far. None: only `max_batch_tokens` counts.
        max_requests: the most requests that are there at once, running or waiting; the next is refused.
        max_queued_tokens: the most tokens of texts and prompts that wait to be run; a request is refused that would go
            beyond, unless none is there.
        max_kv_bytes: the most bytes of keys and values that accepted texts may come to need, all models together.
        max_model_bytes: models that were given as functions are closed, those that were used longest ago first, while the
            weights of all loaded ones take more, and nobody uses them; not the one that was used last. None: they stay.
        thread: run steps in a thread of the scheduler's own, from the first request on. False: the caller runs `step`.
        clock: seconds, as time.monotonic.
        on_step: called with what each step was, in the scheduler's thread.
        on_finished: called with what each request was, when it has ended, in the scheduler's thread.
    """

    max_batch_tokens: int = 2048
    step_seconds: float | None = 0.02
    max_requests: int = 512
    max_queued_tokens: int = 1 << 19
    max_kv_bytes: int = 2 << 30
    max_model_bytes: int | None = None
    thread: bool = True
    clock: Callable[[], float] = time.monotonic
    on_step: Callable[[Step], None] | None = None
    on_finished: Callable[[Finished], None] | None = None

    def __post_init__(self) -> None:
        for name in ("max_batch_tokens", "max_requests", "max_queued_tokens", "max_kv_bytes"):
            whole_number(name, getattr(self, name), 1)
        if self.step_seconds is not None:
            number("step_seconds", self.step_seconds, 0, above=True)
        if self.max_model_bytes is not None:
            whole_number("max_model_bytes", self.max_model_bytes, 0)
        flag("thread", self.thread)
        for name in ("clock", "on_step", "on_finished"):
            function(name, getattr(self, name))

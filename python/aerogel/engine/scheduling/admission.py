"""Who is let in: a bound on how much there is to do at once."""

from __future__ import annotations

import threading

from aerogel.engine.scheduling.metrics import Metrics
from aerogel.engine.scheduling.options import SchedulerOptions
from aerogel.engine.scheduling.requests import Request
from aerogel.errors import AerogelError, DataError, OverloadedError

#: Seconds after which a refused client may come again, at the least.
_LEAST_WAIT, _MOST_WAIT = 0.1, 60.0
_CLOSING = "the scheduler is closing: it takes no more requests"


class Admission:
    """Counts what is there. For any thread.

    Args:
        options: the limits.
        metrics: where the counts are kept.
    """

    def __init__(self, options: SchedulerOptions, metrics: Metrics) -> None:
        self._options, self._metrics = options, metrics
        self._lock = threading.Lock()
        self._next = 0
        self._second_tokens = 0.0  # tokens that have been run in a second
        self.closing = False

    def look(self) -> None:
        """Refuses who would not be let in by the number of requests, before anything is computed of what he asks for.

        Raises:
            OverloadedError: as `enter`.
        """
        with self._lock:
            most, have = self._options.max_requests, self._metrics.queued
            if self.closing or have >= most:
                self._metrics.refused += 1
                if self.closing:
                    raise OverloadedError(_CLOSING, 1.0)
                raise OverloadedError(
                    f"overloaded: expected at most {most} requests, got {have} and 1 more", self.wait()
                )

    def enter(self, request: Request) -> None:
        """Lets a request in, and gives it its number.

        Raises:
            OverloadedError: there is too much to do; or none is let in any more.
            DataError: its keys and values would never have room.
        """
        options, metrics = self._options, self._metrics
        with self._lock:
            try:
                if self.closing:
                    raise OverloadedError(_CLOSING, 1.0)
                if request.kv_bytes > options.max_kv_bytes:
                    raise DataError(
                        f"prompt and max_new_tokens: expected at most {options.max_kv_bytes} bytes of keys and values "
                        f"(max_kv_bytes), got {request.kv_bytes}"
                    )
                for what, have, more, most in (
                    ("requests", metrics.queued, 1, options.max_requests),
                    ("queued tokens", metrics.queued_tokens, request.tokens, options.max_queued_tokens),
                    ("bytes of keys and values", metrics.kv_bytes, request.kv_bytes, options.max_kv_bytes),
                ):
                    if have and have + more > most:
                        raise OverloadedError(
                            f"overloaded: expected at most {most} {what}, got {have} and {more} more", self.wait()
                        )
            except AerogelError:
                metrics.refused += 1
                raise
            request.number = self._next
            self._next += 1
            metrics.accepted += 1
            metrics.queued += 1
            metrics.queued_tokens += request.waiting
            metrics.kv_bytes += request.kv_bytes

    def ran(self, tokens: int, seconds: float) -> None:
        """So many of the queued tokens have been run, in so long."""
        with self._lock:
            self._metrics.queued_tokens -= tokens
            if seconds > 0 and tokens:
                speed = tokens / seconds
                self._second_tokens += 0.2 * (speed - self._second_tokens) if self._second_tokens else speed

    def leave(self, request: Request) -> None:
        """A request has ended."""
        with self._lock:
            self._metrics.queued -= 1
            self._metrics.queued_tokens -= request.waiting
            self._metrics.kv_bytes -= request.kv_bytes

    def wait(self) -> float:
        """Seconds until what is queued now will have been run, by the speed so far; 1 where it is not known."""
        speed = self._second_tokens
        seconds = self._metrics.queued_tokens / speed if speed else 1.0
        return min(max(seconds, _LEAST_WAIT), _MOST_WAIT)

"""The callback that reports progress."""

from __future__ import annotations

from collections.abc import Callable

#: Called after every step with (steps done, steps in all, the name of the one just done).
Progress = Callable[[int, int, str], None]

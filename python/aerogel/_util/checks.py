"""Checks of arguments that many functions take."""

from __future__ import annotations

import operator
from typing import Any

from aerogel._core import default_threads
from aerogel.errors import AerogelError

#: The most that a team of threads may have.
MOST_THREADS = 1024


def thread_count(threads: Any, error: type[AerogelError] = AerogelError) -> int:
    """The number of worker threads to use: `threads`, any kind of integer, or the process's cores if it is None.

    Raises:
        error: it is no integer from 1 to 1024. True and 2.0 are none.
    """
    if threads is None:
        return int(default_threads())
    try:
        count = None if isinstance(threads, bool) else operator.index(threads)
    except TypeError:
        count = None
    if count is None:
        raise error(f"threads: expected a whole number, got {threads!r}")
    if count < 1:
        raise error(f"threads: expected at least 1, got {count}")
    if count > MOST_THREADS:
        raise error(f"threads: expected 1 to {MOST_THREADS}, got {count}")
    return count

"""Checks of arguments that many functions take."""

from __future__ import annotations

import operator
from typing import Any

from aerogel._core import default_threads
from aerogel.errors import AerogelError

#: The most that a team of threads may have.
MOST_THREADS = 1024


def whole_number(
    name: str, value: Any, least: int, most: int | None = None, error: type[AerogelError] = AerogelError
) -> int:
    """`value`, any kind of integer, as an int.

    Raises:
        error: it is no integer from `least` to `most`. True and 2.0 are none.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise error(f"{name}: expected a whole number, got {value!r:.80}")
    if number < least:
        raise error(f"{name}: expected at least {least}, got {number}")
    if most is not None and number > most:
        raise error(f"{name}: expected {least} to {most}, got {number}")
    return number


def thread_count(threads: Any, error: type[AerogelError] = AerogelError) -> int:
    """The number of worker threads to use: `threads`, any kind of integer; if it is None AEROGEL_THREADS, or else
    OMP_NUM_THREADS within the cores that the process may use, or else those.

    Raises:
        error: it is no integer from 1 to 1024.
        AerogelError: AEROGEL_THREADS is not.
    """
    return int(default_threads()) if threads is None else whole_number("threads", threads, 1, MOST_THREADS, error)

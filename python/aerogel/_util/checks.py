"""Checks of arguments that many functions take: where a value enters, and with the kind of error that its caller names.

Each returns the value in the form that the rest relies on.
"""

from __future__ import annotations

import errno
import math
import numbers
import operator
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from aerogel._core import default_threads
from aerogel.errors import AerogelError, DataError, ShapeError

T = TypeVar("T")

#: The most that a team of threads may have.
MOST_THREADS = 1024
_SHAPES = {1: "one dimension", 2: "[N, K]"}


def shown(value: object) -> str:
    """A value as an error shows it: short, whatever it is."""
    try:
        return f"{value!r:.80}"
    except Exception:  # another's __repr__, or an integer of more digits than Python writes
        return f"a {type(value).__name__}"


def whole_number(
    name: str, value: Any, least: int, most: int | None = None, error: type[AerogelError] = AerogelError
) -> int:
    """`value`, any kind of integer, as an int.

    Raises:
        error: it is no integer from `least` to `most`. True and 2.0 are none.
    """
    found = None
    if not isinstance(value, bool) and not _is_tensor(value):
        try:
            found = operator.index(value)
        except TypeError:
            pass
    if found is None:
        raise error(f"{name}: expected a whole number, got {shown(value)}")
    if found < least:
        raise error(f"{name}: expected at least {least}, got {shown(found)}")
    if most is not None and found > most:
        raise error(f"{name}: expected {least} to {most}, got {shown(found)}")
    return found


def thread_count(threads: Any, error: type[AerogelError] = AerogelError) -> int:
    """The number of worker threads to use: `threads`, any kind of integer; if it is None AEROGEL_THREADS, or else
    OMP_NUM_THREADS within the cores that the process may use, or else those.

    Raises:
        error: it is no integer from 1 to 1024.
        AerogelError: AEROGEL_THREADS is not.
    """
    return int(default_threads()) if threads is None else whole_number("threads", threads, 1, MOST_THREADS, error)


def number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    error: type[AerogelError] = AerogelError,
    above: bool = False,
) -> float:
    """`value`, any kind of real number, as a finite float from `least` (or only `above` it) to `most`.

    Raises:
        error: it is none. True, NaN and what no float can hold are none.
    """
    found = math.nan
    if isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_)):
        try:
            found = float(value)
        except OverflowError:
            pass
    if math.isfinite(found) and (least < found if above else least <= found) and found <= most:
        return found
    raise error(f"{name}: expected {_range(least, most, above)}, got {shown(value)}")


def _range(least: float, most: float, above: bool) -> str:
    if (least, most) == (0, math.inf):
        return "a positive number" if above else "a number that is not negative"
    low = "" if least == -math.inf else f" above {least:g}" if above else f" from {least:g}"
    return f"a number{low}" + ("" if most == math.inf else f"{' and up' if above else ''} to {most:g}")


def flag(name: str, value: Any, error: type[AerogelError] = AerogelError) -> bool:
    """`value` as a bool. Raises `error` if it is anything but true or false: "no" and 0 are not."""
    if not isinstance(value, (bool, np.bool_)):
        raise error(f"{name}: expected True or False, got {shown(value)}")
    return bool(value)


def text(name: str, value: Any, error: type[AerogelError] = AerogelError) -> str:
    """`value`, if it is a string of whole characters, no lone surrogates; else raises `error`."""
    if not isinstance(value, str):
        raise error(f"{name}: expected a string, got {shown(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as cause:
        raise error(f"{name}: expected a string of Unicode characters, got {shown(value)}: {cause.reason}") from cause
    return value


def one_of(name: str, value: Any, known: Iterable[str], error: type[AerogelError] = AerogelError) -> str:
    """`value`, if it is one of the words `known`; else raises `error`, which lists them."""
    words = list(known)
    if not isinstance(value, str) or value not in words:
        raise error(f"{name}: expected one of {', '.join(words)}, got {shown(value)}")
    return value


def instance(name: str, value: T, kind: type[Any], error: type[AerogelError] = AerogelError) -> T:
    """`value`, if it is a `kind`; else raises `error`."""
    if not isinstance(value, kind):
        raise error(f"{name}: expected {kind.__name__}, got {shown(value)}")
    return value


def function(name: str, value: Any, error: type[AerogelError] = AerogelError) -> None:
    """Raises `error` unless `value` is None or can be called."""
    if value is not None and not callable(value):
        raise error(f"{name}: expected a function, got {shown(value)}")


def items(name: str, value: Any, error: type[AerogelError] = DataError, expected: str = "a list") -> list[Any]:
    """What is in `value`, a list or anything else that can be gone through; a text is none, and no mapping or number.
    `expected` is what the error calls what the caller takes."""
    if isinstance(value, (str, bytes, bytearray, memoryview, dict, set, frozenset)) or not isinstance(value, Iterable):
        raise error(f"{name}: expected {expected}, got {shown(value)}")
    try:
        return list(value)
    except (TypeError, MemoryError) as cause:  # an array without dimensions; a range of more than there is memory
        raise error(f"{name}: expected {expected}, got {shown(value)}: {cause}") from cause


def texts(name: str, value: Any, error: type[AerogelError] = DataError) -> list[str]:
    """The strings in `value`, anything that can be gone through but a string; else raises `error`."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise error(f"{name}: expected a list of strings, got {shown(value)}")
    found: list[str] = []
    for item in _each(name, value, error):
        if not isinstance(item, str):
            raise error(f"{name}: expected strings, got {type(item).__name__} at {len(found)}")
        found.append(item)
    return found


def _each(name: str, value: Any, error: type[AerogelError]) -> Iterator[Any]:
    try:
        found: Iterator[Any] = iter(value)
        return found
    except TypeError as cause:  # an array without dimensions calls itself iterable
        raise error(f"{name}: expected a list, got {shown(value)}") from cause


def path_like(name: str, value: Any, error: type[AerogelError] = AerogelError) -> str:
    """`value` as a string, if it is one or an os.PathLike of one; else raises `error`."""
    found = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(found, str):
        raise error(f"{name}: expected a path, got {shown(value)}")
    return found


def path(name: str, value: Any, error: type[AerogelError] = AerogelError) -> Path:
    """`value` as a path that the file system can be asked about; there need not be anything.

    Raises:
        error: it is no str or os.PathLike of one, or no name of a file: a NUL, a lone surrogate, a part that is too long.
    """
    found = path_like(name, value, error)
    try:
        os.stat(found)
    except ValueError as cause:
        raise error(f"{name}: expected a path, got {shown(value)}: {cause}") from cause
    except OSError as cause:
        if cause.errno == errno.ENAMETOOLONG:
            raise error(f"{name}: expected a path, got {shown(value)}: {cause.strerror}") from cause
    return Path(found)


def array(
    name: str, value: Any, dimensions: int | None = None, error: type[AerogelError] = DataError, kinds: str = "fiub"
) -> np.ndarray:
    """`value` as an array of real numbers, or of other `kinds` of NumPy; copied only where it has to be.

    Raises:
        error: no array can be made of it, or not one of numbers.
        ShapeError: it does not have so many `dimensions`.
    """
    try:
        found = np.asarray(value)
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as cause:
        # Lists of unequal lists; PyTorch's tensors that need gradients, are sparse, or are nowhere.
        raise error(f"{name}: expected an array of numbers, got {shown(value)}: {cause}") from cause
    if found.dtype.kind not in kinds and (found.size or found.dtype.kind not in "fiub"):
        raise error(f"{name}: expected numbers, got {found.dtype}")
    if dimensions is not None and found.ndim != dimensions:
        raise ShapeError(f"{name}: expected {_SHAPES[dimensions]}, got {list(found.shape)}")
    return found


def float32(name: str, value: Any, dimensions: int | None = None, error: type[AerogelError] = DataError) -> np.ndarray:
    """`value` as an array of float32, as `array` reads it: what is too large for float32 is infinite there."""
    with np.errstate(over="ignore"):
        return np.asarray(array(name, value, dimensions, error), np.float32)


def _is_tensor(value: Any) -> bool:
    """PyTorch's tensors of one number call themselves an index, and fail at it where they are nowhere."""
    return type(value).__module__.partition(".")[0] == "torch"

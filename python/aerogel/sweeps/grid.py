"""The grid of a sweep: text to points, each of them a set of keyword arguments of `aerogel.compress`."""

from __future__ import annotations

import inspect
import itertools
import logging
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aerogel._util.checks import instance, items, number
from aerogel._util.checks import text as a_text
from aerogel.compression import compress
from aerogel.errors import RecipeError
from aerogel.prune import method, parse_pattern
from aerogel.quantize import scheme

log = logging.getLogger("aerogel")

#: Arguments of compress that a sweep sets by itself.
_OWN = ("source", "out", "threads", "progress", "overwrite")

#: More points than anyone waits for.
MOST = 100_000


def parse_grid(text: str) -> dict[str, list[Any]]:
    """ "sparsity=0.5,0.8 quant=int8" as {"sparsity": [0.5, 0.8], "quant": ["int8"]}: what looks like a number is one.

    Raises:
        RecipeError: a word is not KEY=VALUE,..., or a key is there twice.
    """
    grid: dict[str, list[Any]] = {}
    for word in a_text("grid", text, RecipeError).split():
        key, equal, values = word.partition("=")
        if not (key and equal and all(values.split(","))):
            raise RecipeError(f"grid: expected KEY=VALUE,... with spaces between, got {word!r}")
        if key in grid:
            raise RecipeError(f"grid: {key} is there twice")
        grid[key] = list(dict.fromkeys(_value(value) for value in values.split(",")))
    if not grid:
        raise RecipeError("grid: expected KEY=VALUE,..., such as sparsity=0.5,0.8; got nothing")
    return grid


def points_of(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination, checked before any of them is run, without repetitions.

    A pattern that fixes its sparsity (8:64) is one point, whatever sparsities the grid has for the others.

    Raises:
        RecipeError: a key or value that `compress` does not know.
    """
    instance("grid", grid, Mapping, RecipeError)
    known = [name for name in inspect.signature(compress).parameters if name not in _OWN]
    unknown = [str(key) for key in grid if key not in known]
    if unknown:
        raise RecipeError(f"grid: {', '.join(unknown)}: unknown, expected some of {', '.join(known)}")
    found: list[dict[str, Any]] = []
    lists = [items(f"grid: {key}", values, RecipeError) for key, values in grid.items()]
    if math.prod(map(len, lists)) > MOST:
        raise RecipeError(f"grid: expected at most {MOST} points, got {math.prod(map(len, lists))}")
    for values in itertools.product(*lists):
        point = _checked(dict(zip(grid, values)))
        if point not in found:
            found.append(point)
    return found


def _checked(point: dict[str, Any]) -> dict[str, Any]:
    if "sparsity" in point:
        number("grid: sparsity", point["sparsity"], 0, 1, RecipeError)
    if "quant" in point:
        scheme(str(point["quant"]))
    if "method" in point:
        method(str(point["method"]))
    pattern = str(point.get("pattern", "unstructured"))
    try:
        parse_pattern(pattern, point.get("sparsity"))
    except RecipeError:
        if "sparsity" not in point:
            raise
        own = parse_pattern(pattern, None).sparsity if pattern != "unstructured" else None
        if own is None or not 0 <= point["sparsity"] <= 1:
            raise
        log.info("sweep: the pattern %s has a sparsity of its own: %s stands for it", pattern, own)
        point = {key: value for key, value in point.items() if key != "sparsity"}
    return point


def name_of(point: Mapping[str, Any]) -> str:
    """A folder's name for a point, one that says what it is."""
    text = " ".join(f"{key}={value}" for key, value in point.items())
    return re.sub(r"[^A-Za-z0-9=.,+-]+", "_", text.replace(" ", ",").replace(":", "-"))[:120]


def label_of(point: Mapping[str, Any], among: Sequence[Mapping[str, Any]]) -> str:
    """A short name: the values that differ between the points of a sweep."""
    keys = dict.fromkeys(key for each in among for key in each)
    differing = [key for key in keys if len({str(each.get(key)) for each in among}) > 1] or list(point)
    words = [str(point[key]) for key in differing if key in point]
    return " ".join(words) or " ".join(map(str, point.values()))


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text

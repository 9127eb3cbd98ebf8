"""Pareto fronts of measured points, and points where more sparsity made the file larger or the model slower."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aerogel._util.checks import array, instance, items
from aerogel.errors import AerogelError, ShapeError


def pareto(costs: Sequence[float], scores: Sequence[float]) -> list[bool]:
    """For each point, whether no other costs at most as much and scores at least as well, one of both strictly.

    Points where either is NaN are never on the front. Costs and scores: lower and higher is better.
    """
    costs, scores = (array(name, values, 1).tolist() for name, values in (("costs", costs), ("scores", scores)))
    if len(costs) != len(scores):
        raise ShapeError(f"scores: expected {len(costs)}, one for each cost, got {len(scores)}")
    found = []
    for cost, score in zip(costs, scores):
        worse = any(
            c <= cost and s >= score and (c < cost or s > score)
            for c, s in zip(costs, scores)
            if math.isfinite(c) and math.isfinite(s)
        )
        found.append(math.isfinite(cost) and math.isfinite(score) and not worse)
    return found


def contradictions(points: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """For each point, what it has against a less sparse one that is otherwise the same: a larger file, more time.

    Args:
        points: with "point" (the arguments of compress), "sparsity", "bytes", and "timing" (median, q1, q3 in
            milliseconds) or None. A time counts as slower where the quartiles do not overlap, so noise is not blamed.
    """
    points = [instance("points", point, Mapping) for point in items("points", points)]
    for key in ("point", "sparsity", "bytes", "timing"):
        if any(key not in point for point in points):
            raise AerogelError(f"points: expected each with {key}")
    found: list[list[str]] = [[] for _ in points]
    groups: dict[str, list[int]] = {}
    for i, each in enumerate(points):
        groups.setdefault(_family(each["point"]), []).append(i)
    for members in groups.values():
        order = sorted(members, key=lambda i: points[i]["sparsity"])
        for place, i in enumerate(order):
            this = points[i]
            lower = [points[j] for j in order[:place] if points[j]["sparsity"] < this["sparsity"]]
            larger = [p for p in lower if p["bytes"] < this["bytes"]]
            if larger:
                found[i].append(f"larger than at {larger[-1]['sparsity']:.1%} sparsity")
            slower = [p for p in lower if p["timing"] and this["timing"] and p["timing"]["q3"] < this["timing"]["q1"]]
            if slower:
                found[i].append(f"slower than at {slower[-1]['sparsity']:.1%} sparsity")
    return found


def _family(point: Mapping[str, Any]) -> str:
    """All of a point but how sparse it is: patterns Q:64 are one family."""
    rest = {key: value for key, value in point.items() if key != "sparsity"}
    if "pattern" in rest:
        rest["pattern"] = re.sub(r"^\d+:(\d+(?:x\d+)?)$", r"Q:\1", str(rest["pattern"]))
    return repr(sorted(rest.items(), key=lambda pair: pair[0]))

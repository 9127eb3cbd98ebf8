"""From measured times to the forms of a layer's weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

#: Row counts that are measured; between them times are interpolated.
ROWS = (1, 4, 16, 32, 128)
#: How much each row count matters to a model that reads texts, and to one that writes token by token.
PURPOSES: Mapping[str, Mapping[int, float]] = {
    "encode": {1: 0.25, 4: 0.5, 16: 1, 32: 1, 128: 1.5},
    "generate": {1: 2, 4: 0.5, 16: 0.5, 32: 0.5, 128: 1},
}
#: A form that takes as much memory as the dense one must save this part of the time to be worth it.
MEMORY_WORTH = 0.04
#: Noise that a choice looks away from.
NOISE = 0.03

Forms = list[tuple[str, "int | None"]]


@dataclass
class Times:
    """What was measured of one kind of layer: seconds by format and number of rows, and bytes by format."""

    seconds: dict[str, dict[int, float]] = field(default_factory=dict)
    nbytes: dict[str, int] = field(default_factory=dict)

    def at(self, format: str, rows: int) -> float:
        """Seconds of a call with `rows` rows, interpolated between those measured, beyond them in proportion."""
        measured = self.seconds[format]
        known = sorted(measured)
        if rows >= known[-1]:
            return measured[known[-1]] * rows / known[-1]
        points = np.log([measured[r] for r in known])
        return float(np.exp(np.interp(math.log(max(rows, known[0])), np.log(known), points)))

    def of(self, forms: Forms, rows: int) -> float:
        """Seconds of a call with `rows` rows in the form that serves them."""
        return self.at(serving(forms, rows), rows)


def serving(forms: Forms, rows: int) -> str:
    """The format that runs a call with this many rows."""
    return next(format for format, most in forms if most is None or rows <= most)


def choose(times: Times, weights: Mapping[int, float], dense: str, memory: float | None = None) -> Forms:
    """The forms of least time over the row counts that matter.

    Every form and pair of forms is a choice. Those that are slower than dense at some number of rows, or take more than
    `memory`, are only taken if nothing else is left.

    Args:
        times: of every candidate, the dense one included.
        weights: how much each measured row count matters.
        dense: name of the dense format.
        memory: most bytes that the layer may take, as a multiple of its dense form; None: no limit.

    Returns:
        (format, max_rows) by rising max_rows; the last one serves any number, None.
    """
    rows = sorted(weights)
    best = {r: min(times.seconds[f][r] for f in times.seconds) for r in rows}
    unit = times.nbytes[dense]

    def cost(forms: Forms) -> tuple[bool, bool, float, int]:
        nbytes = sum(times.nbytes[format] for format, _ in forms)
        over = memory is not None and nbytes > memory * unit
        taken = {r: times.seconds[serving(forms, r)][r] for r in rows}
        slower = any(taken[r] > (1 + NOISE) * times.seconds[dense][r] for r in rows)
        relative = sum(weights[r] * taken[r] / best[r] for r in rows) / sum(weights.values())
        # Over the limit, the smallest, however fast; else the fastest of those that beat dense everywhere, if there are any.
        return (over, slower and not over, nbytes if over else relative + MEMORY_WORTH * nbytes / unit, len(forms))

    options: list[Forms] = [[(format, None)] for format in times.seconds]
    for few in times.seconds:
        for many in times.seconds:
            if few != many:
                options += [
                    [(few, _crossing(times, few, many, low, high)), (many, None)]
                    for low, high in zip(rows, rows[1:], strict=False)
                ]
    return min(options, key=cost)


def _crossing(times: Times, few: str, many: str, low: int, high: int) -> int:
    """The number of rows in [low, high) up to which `few` is the faster one, from the times at both ends."""
    ahead = math.log(times.seconds[many][low] / times.seconds[few][low])
    behind = math.log(times.seconds[few][high] / times.seconds[many][high])
    if ahead <= 0 or behind <= 0:  # they do not cross here: the choice may still be the best one
        return low
    share = ahead / (ahead + behind)
    return min(high - 1, int(math.exp(math.log(low) + share * math.log(high / low))))

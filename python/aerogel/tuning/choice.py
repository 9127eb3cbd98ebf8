"""From measured times to the forms of a layer's weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Row counts of which a time is known; between them times are interpolated. Kernels take 8, 16 or 32 rows together, and what
#: stands just above is their worst case, so some of these do. One token in two terms is 2 rows.
ROWS = (1, 2, 4, 9, 16, 17, 32, 128, 2048)
#: Up to here a time is one call's; that of more rows follows from it and from a call that finds the weights in the caches.
MEASURED = ROWS[:-1]
#: A multiple of the rows that any kernel takes together: beyond, a call takes as long as whole tiles and the few rows
#: behind them.
TILES = 32
#: Where no form is to be slower than dense.
CHECKED = tuple(sorted({*ROWS, 33, 65, 129}))
#: How much row counts matter to a model that reads texts, and to one that writes token by token, in one term and in two.
PURPOSES: Mapping[str, Mapping[int, float]] = {
    "encode": {1: 0.25, 4: 0.5, 16: 1, 32: 1, 128: 1.5},
    "generate": {1: 1, 2: 1, 4: 0.5, 16: 0.5, 32: 0.5, 128: 0.5, 2048: 0.5},
}
#: A form that takes as much memory as the dense one must save this part of the time to be worth it.
MEMORY_WORTH = 0.04
#: Noise that a choice looks away from.
NOISE = 0.03

Forms = list[tuple[str, "int | None"]]


@dataclass
class Times:
    """What was measured of one kind of layer: seconds by format and number of rows, and bytes by format.

    Attributes:
        tiles: rows that the kernel of a format takes together, where that is not 1.
    """

    seconds: dict[str, dict[int, float]] = field(default_factory=dict)
    nbytes: dict[str, int] = field(default_factory=dict)
    tiles: Mapping[str, int] = field(default_factory=dict)

    def at(self, format: str, rows: int) -> float:
        """Seconds of a call with `rows` rows, interpolated between those known, beyond them in proportion."""
        known = self.seconds[format]
        rest = rows % TILES
        if rest and rows > TILES and rows not in known and self.tiles.get(format, 1) > 1:
            return self._between(known, rows - rest) + self._between(known, rest)
        return self._between(known, rows)

    def of(self, forms: Forms, rows: int) -> float:
        """Seconds of a call with `rows` rows in the forms that serve them."""
        return sum(self.at(format, part) for format, part in self.shared(forms, rows))

    def shared(self, forms: Forms, rows: int) -> list[tuple[str, int]]:
        """How the rows of a call are shared out to forms, as `PackedLinear::whole` does it."""
        many = serving(forms, rows)
        rest = rows % self.tiles.get(many, 1)
        few = serving(forms, rest)
        if not rest or few == many or serving(forms, rows - rest) != many:
            return [(many, rows)]
        return [(many, rows - rest), (few, rest)]

    @staticmethod
    def _between(known: Mapping[int, float], rows: int) -> float:
        points = sorted(known)
        if rows >= points[-1]:
            return known[points[-1]] * rows / points[-1]
        high = next((i for i, point in enumerate(points) if point >= rows), 0)
        if high == 0 or points[high] == rows:
            return known[points[high]]
        low, up = points[high - 1], points[high]
        share = math.log(rows / low) / math.log(up / low)
        return math.exp((1 - share) * math.log(known[low]) + share * math.log(known[up]))


def serving(forms: Forms, rows: int) -> str:
    """The format that runs a call with this many rows."""
    return next(format for format, most in forms if most is None or rows <= most)


def choose(times: Times, weights: Mapping[int, float], dense: str, memory: float | None = None) -> Forms:
    """The forms of least time over the row counts that matter.

    Every form and pair of forms is a choice. Those that are slower than dense at one of the row counts `CHECKED`, or take
    more than `memory`, are only taken if nothing else is left.

    Args:
        times: of every candidate, the dense one included.
        weights: how much row counts matter, each one of `ROWS`.
        dense: name of the dense format.
        memory: most bytes that the layer may take, as a multiple of its dense form; None: no limit.

    Returns:
        (format, max_rows) by rising max_rows; the last one serves any number, None.
    """
    best = {r: min(times.seconds[f][r] for f in times.seconds) for r in weights}
    unit = times.nbytes[dense]
    rests = {(r, r % tile) for r in CHECKED for tile in times.tiles.values()}
    parts = {*CHECKED, *(rest for _, rest in rests), *(r - rest for r, rest in rests)} - {0}
    at = {f: {r: times.at(f, r) for r in parts} for f in times.seconds}

    def cost(forms: Forms) -> tuple[bool, bool, float, int]:
        nbytes = sum(times.nbytes[format] for format, _ in forms)
        over = memory is not None and nbytes > memory * unit
        taken = {r: sum(at[f][part] for f, part in times.shared(forms, r)) for r in CHECKED}
        slower = any(taken[r] > (1 + NOISE) * at[dense][r] for r in CHECKED)
        relative = sum(weights[r] * taken[r] / best[r] for r in weights) / sum(weights.values())
        # Over the limit, the smallest, however fast; else the fastest of those that beat dense everywhere, if there are any.
        return (over, slower and not over, nbytes if over else relative + MEMORY_WORTH * nbytes / unit, len(forms))

    options: list[Forms] = [[(format, None)] for format in times.seconds]
    for few in times.seconds:
        for many in times.seconds:
            if few != many:
                options += [
                    [(few, _crossing(times, few, many, low, high)), (many, None)]
                    for low, high in zip(ROWS, ROWS[1:], strict=False)
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

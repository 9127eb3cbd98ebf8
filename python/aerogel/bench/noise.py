"""Whether the machine was quiet enough for reliable measurements.

Three signs are read around every turn: how long a fixed amount of arithmetic takes just before it, while all contestants
are stopped (a slower clock, or somebody on this core); how many cores others kept busy during it; and how much time the
hypervisor took away (steal).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aerogel._core import time_fixed_work

#: A turn is quiet when the fixed work took less than this times its best, others used fewer cores than this, and the
#: hypervisor took less than this share of a core. A tick of /proc/stat is 10 ms: less cannot be seen in a short turn.
SLOWER, FOREIGN_CORES, STEAL = 1.15, 0.25, 0.05
#: Shares above which a run is not to be trusted: of disturbed turns, and of a variant's quartile spread over its median.
DISTURBED_SHARE, SPREAD = 0.25, 0.15


@dataclass
class Turn:
    """Some timed calls of one contestant, and what the machine did meanwhile."""

    seconds: list[float]
    foreign_cores: float | None
    steal: float | None
    fixed_work: float
    disturbed: bool = False


def fixed_work() -> float:
    """Seconds of a fixed amount of arithmetic: the middle of three."""
    return statistics.median(time_fixed_work() for _ in range(3))


def mark(turns: Sequence[Turn]) -> None:
    """Says of every turn whether it was disturbed."""
    best = min(turn.fixed_work for turn in turns)
    for turn in turns:
        turn.disturbed = (
            turn.fixed_work > SLOWER * best
            or (turn.foreign_cores or 0.0) > FOREIGN_CORES
            or (turn.steal or 0.0) > STEAL
        )


@dataclass(frozen=True)
class Noise:
    """Summary of the noise during a run. `warning` is None if the figures are reliable."""

    turns: int
    disturbed: int
    slowest_fixed_work: float
    foreign_cores: float | None
    steal: float | None
    widest_spread: float
    warning: str | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(turns: Sequence[Turn], spreads: dict[str, float]) -> Noise:
    """`spreads`: (third quartile - first) / median, by variant and case."""
    disturbed = sum(turn.disturbed for turn in turns)
    share = disturbed / len(turns)
    best = min(turn.fixed_work for turn in turns)
    wide = max(spreads, key=lambda name: spreads[name])
    foreign, steal = _mean([t.foreign_cores for t in turns]), _mean([t.steal for t in turns])
    reasons = []
    if share > DISTURBED_SHARE:
        more = "" if foreign is None else f"; others kept {foreign:.1f} cores busy on average"
        reasons.append(f"{share:.0%} of the turns were disturbed{more}")
    if spreads[wide] > SPREAD:
        reasons.append(f"the quartiles of {wide} are {spreads[wide]:.0%} of its median apart")
    warning = f"this machine was too noisy to trust the figures: {'; '.join(reasons)}" if reasons else None
    return Noise(len(turns), disturbed, max(t.fixed_work for t in turns) / best, foreign, steal, spreads[wide], warning)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None

"""What a sweep found, as values, and as rows for tables and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerogel._util.files import write_json, write_text
from aerogel.evaluate import Worst
from aerogel.sweeps.front import contradictions, pareto


@dataclass(frozen=True)
class Point:
    """One compressed model, or a dense one to compare with. What is not known is None.

    Attributes:
        name: a short label.
        point: the arguments of `compress`.
        report: of the compression, as plain values (CompressReport.as_dict).
        score: Score.as_dict, without the values of single examples.
        timing: milliseconds of a call (of a token decoded): median, min, q1, q3, times `scale`, which makes dense int8 as
            fast as in the first run; speedup over dense int8, paired in the same run; noise: why not to trust them.
        error: why the point failed; None if it did not.
        folder: where its model is kept.
        dense: whether it is a reference, not a point of the grid.
    """

    name: str
    point: dict[str, Any]
    report: dict[str, Any] | None = None
    score: dict[str, Any] | None = None
    timing: dict[str, Any] | None = None
    error: str | None = None
    folder: str | None = None
    dense: bool = False

    @property
    def bytes(self) -> float:
        """Of the file of weights; NaN if unknown."""
        return float(self.report["file_bytes"]) if self.report else math.nan

    @property
    def sparsity(self) -> float:
        """Fraction of zeros in the pruned matrices; NaN if unknown."""
        return float(self.report["sparsity"]) if self.report else math.nan

    @property
    def value(self) -> float:
        """The score's main figure; NaN if there is none."""
        figure = self.score["figures"][self.score["metric"]]["value"] if self.score else None
        return math.nan if figure is None else float(figure)

    @property
    def ms(self) -> float:
        """Median milliseconds; NaN if not measured."""
        return float(self.timing["median"]) if self.timing else math.nan

    @property
    def sets(self) -> dict[str, float]:
        """Of a score that is the worst of several sets: their mean, and each set's figure by its name."""
        if self.score is None or self.score.get("task") != Worst.name:
            return {}
        figures = {name: figure["value"] for name, figure in self.score["figures"].items()}
        del figures[self.score["metric"]]
        return {name: math.nan if value is None else float(value) for name, value in figures.items()}

    def kept(self, which: str = "value") -> float:
        """The score over dense fp32's, or an end of its interval ("low", "high"); NaN if unknown."""
        kept = (self.score or {}).get("against")
        value = kept["kept"][which] if kept else None
        return math.nan if value is None else float(value)


@dataclass(frozen=True)
class Sweep:
    """A grid of compressed models, evaluated and timed.

    Attributes:
        source: the dense model.
        task: "sts", ...; metric: its main figure; lower_is_better: of that.
        case: what was timed: "1x128" tokens of an encoder, "decode 32" tokens of a language model.
        machine: where.
        points: dense fp32, dense int8, then the grid's.
        notes: what must be said with the times.
    """

    source: str
    task: str
    metric: str
    lower_is_better: bool
    case: str
    machine: dict[str, Any]
    points: list[Point]
    notes: list[str] = field(default_factory=list)

    def front(self, cost: str) -> list[bool]:
        """For each point whether it is on the Pareto front of score against "bytes" or "ms", the dense ones included."""
        sign = -1 if self.lower_is_better else 1
        return pareto([getattr(p, cost) for p in self.points], [sign * p.value for p in self.points])

    def best(self, cost: str) -> list[bool]:
        """The points of a front that are better for certain: from the cheapest on, those whose interval lies above that of
        the last one before them."""
        sign, metric, front = (-1 if self.lower_is_better else 1), self.metric, self.front(cost)
        chosen, reached = set(), -math.inf
        for i in sorted((i for i, on in enumerate(front) if on), key=lambda i: getattr(self.points[i], cost)):
            ends = [_end(self.points[i].score, metric, end) for end in ("low", "high")]
            low, high = sorted(sign * (self.points[i].value if e is None else e) for e in ends)
            if low > reached:
                chosen.add(i)
                reached = high
        return [i in chosen for i in range(len(self.points))]

    def warnings(self) -> list[list[str]]:
        """For each point where more sparsity gave a larger file or a slower model."""
        known = [p for p in self.points if not p.dense and p.report]
        values = [{"point": p.point, "sparsity": p.sparsity, "bytes": p.bytes, "timing": p.timing} for p in known]
        found = dict(zip((p.name for p in known), contradictions(values)))
        return [found.get(p.name, []) for p in self.points]

    def rows(self) -> list[dict[str, Any]]:
        """One flat row a point, for CSV and JSON."""
        table = zip(self.points, self.front("bytes"), self.front("ms"), self.warnings())
        return [
            {
                "name": p.name,
                **{f"arg_{key}": value for key, value in p.point.items()},
                "dense": p.dense,
                "sparsity": _known(p.sparsity),
                "file_bytes": _known(p.bytes),
                self.metric: _known(p.value),
                **{f"{self.metric}_{end}": _end(p.score, self.metric, end) for end in ("low", "high")},
                "kept": _known(p.kept()),
                **{f"kept_{end}": _known(p.kept(end)) for end in ("low", "high")},
                **{f"set {name}": _known(value) for name, value in p.sets.items()},
                **{name: figure["value"] for name, figure in _agreement(p.score).items()},
                "ms": _known(p.ms),
                "speedup": (p.timing or {}).get("speedup"),
                "pareto_size": small,
                "pareto_speed": fast,
                "warnings": "; ".join(warned),
                "error": p.error,
            }
            for p, small, fast, warned in table
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **{key: getattr(self, key) for key in ("source", "task", "metric", "lower_is_better", "case", "machine")},
            "notes": self.notes,
            "points": self.rows(),
        }

    def write(self, folder: Path) -> None:
        """Writes sweep.json and sweep.csv."""
        write_json(folder / "sweep.json", self.as_dict())
        rows = self.rows()
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
        write_text(folder / "sweep.csv", text.getvalue())


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _end(score: Mapping[str, Any] | None, metric: str, end: str) -> float | None:
    return score["figures"][metric][end] if score else None


def _agreement(score: Mapping[str, Any] | None) -> dict[str, Any]:
    against = (score or {}).get("against")
    return dict(against["agreement"]) if against else {}

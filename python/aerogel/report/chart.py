"""Accuracy against a cost, with the Pareto front, as inline SVG: colours come from the page, so that it is dark with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 620, 400
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 18, 50
#: Where the axis of costs lies.
BASE = HEIGHT - BOTTOM
#: A cost that spans more than this factor gets a logarithmic axis.
LOG_SPAN = 3.0
#: About so many pixels a letter of a label, and its height.
LETTER, LINE = 5.9, 13


@dataclass(frozen=True)
class Dot:
    """A point: its label, cost, score and the score's interval (NaN: none), whether it is on the front, whether dense."""

    label: str
    x: float
    y: float
    low: float
    high: float
    front: bool
    dense: bool
    tip: str


def scatter(
    dots: Sequence[Dot],
    xlabel: str,
    ylabel: str,
    xform: Callable[[float], str],
    yform: Callable[[float], str],
    lower_is_better: bool = False,
) -> str:
    """The chart; "" if no dot has both numbers."""
    dots = [d for d in dots if math.isfinite(d.x) and math.isfinite(d.y) and d.x > 0]
    if not dots:
        return ""
    plane = _Plane(dots)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(ylabel)} by {escape(xlabel)}">',
        *_grid(plane, xform, yform),
        *_names(plane, xlabel, ylabel, lower_is_better),
        *_front(plane, sorted((d for d in dots if d.front), key=lambda d: d.x)),
    ]
    placed = [(plane.x(d.x) - 6, plane.y(d.y) - 6, plane.x(d.x) + 6, plane.y(d.y) + 6) for d in dots]
    labels = []
    for d in sorted(dots, key=lambda d: (not d.front, not d.dense, d.x)):
        parts.append(_mark(plane, d))
        if d.front or d.dense:
            labels.append(_label(d.label, plane.x(d.x), plane.y(d.y), placed))
    return "".join([*parts, *labels, "</svg>"])


class _Plane:
    """Where values lie in the picture."""

    def __init__(self, dots: Sequence[Dot]) -> None:
        self.log = max(d.x for d in dots) > LOG_SPAN * min(d.x for d in dots)
        self._along: Callable[[float], float] = math.log if self.log else float
        self._x = _widened(min(self._along(d.x) for d in dots), max(self._along(d.x) for d in dots), 0.06)
        self._y = _widened(min(d.y for d in dots), max(d.y for d in dots), 0.09)

    def x(self, value: float) -> float:
        low, high = self._x
        return LEFT + (self._along(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def xticks(self) -> list[float]:
        low, high = self._x
        return log_ticks(math.exp(low), math.exp(high)) if self.log else ticks(low, high)

    def yticks(self) -> list[float]:
        return ticks(*self._y)


def _grid(plane: _Plane, xform: Callable[[float], str], yform: Callable[[float], str]) -> Iterator[str]:
    """Lines across with their values, and the axis below with its."""
    for tick in plane.yticks():
        y = plane.y(tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{yform(tick)}</text>'
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{BASE}" y2="{BASE}"/>'
    for tick in plane.xticks():
        x = plane.x(tick)
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{BASE}" y2="{BASE + 4}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{BASE + 17}" text-anchor="middle">{xform(tick)}</text>'


def _names(plane: _Plane, xlabel: str, ylabel: str, lower_is_better: bool) -> Iterator[str]:
    """What the axes show, and which way is better."""
    middle = (LEFT + WIDTH - RIGHT) / 2
    scale = ", log scale" if plane.log else ""
    yield (
        f'<text class="name" x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">'
        f"{escape(xlabel)}{scale} · less is better</text>"
    )
    better = "less" if lower_is_better else "more"
    yield (
        f'<text class="name" transform="translate(14 {(TOP + BASE) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(ylabel)} · {better} is better</text>"
    )


def _front(plane: _Plane, front: Sequence[Dot]) -> Iterator[str]:
    """The line through the best dots, from left to right."""
    if len(front) > 1:
        path = f"M{plane.x(front[0].x):.1f},{plane.y(front[0].y):.1f}"
        for d in front[1:]:  # a step: between two models there is nothing
            path += f" H{plane.x(d.x):.1f} V{plane.y(d.y):.1f}"
        yield f'<path class="front" d="{path}"/>'


def _mark(plane: _Plane, d: Dot) -> str:
    """A dot, with its interval where it is on the front; the dense form is a diamond."""
    x, y = plane.x(d.x), plane.y(d.y)
    kind = ("dense " if d.dense else "") + ("best" if d.front else "other")
    body = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{5 if d.front else 4}"/>'
    if d.dense:
        body = (
            f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" transform="rotate(45 {x:.1f} {y:.1f})"/>'
        )
    if d.front and not d.dense and math.isfinite(d.low) and math.isfinite(d.high):
        top, bottom = max(TOP, plane.y(d.high)), min(BASE, plane.y(d.low))
        body = f'<line class="interval" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>' + body
    return f'<g class="{kind}"><title>{escape(d.tip)}</title>{body}</g>'


def _label(text: str, x: float, y: float, placed: list[tuple[float, float, float, float]]) -> str:
    """A label in the first place beside its dot where nothing is yet; none if there is no such place."""
    width = LETTER * len(text)
    # the front runs to the right and up from a dot: below it there is room
    for dx, dy, anchor in (
        (6, 17, "start"), (0, 20, "middle"), (-9, 4, "end"), (-7, -9, "end"),
        (9, 4, "start"), (0, -10, "middle"), (7, -9, "start"), (-7, 17, "end"),
    ):  # fmt: skip
        left = x + dx - {"start": 0, "middle": width / 2, "end": width}[anchor]
        box = (left, y + dy - LINE + 3, left + width, y + dy + 3)
        inside = box[0] >= LEFT and box[2] <= WIDTH - 2 and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
        if inside and not any(
            box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in placed
        ):
            placed.append(box)
            return f'<text class="label" x="{x + dx:.1f}" y="{y + dy:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    return ""


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from low to high, at steps of 1, 2 or 5 times a power of ten."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    while (high - low) / step > most:
        step *= 2.5 if f"{step:e}"[0] == "2" else 2
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from low to high; more of them where these are few."""
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [d * 10.0**p for p in powers for d in digits if low <= d * 10.0**p <= high]
        if len(found) >= 4:
            break
    return found


def _widened(low: float, high: float, share: float) -> tuple[float, float]:
    room = (high - low) * share or max(abs(low), 1e-9) * 0.05
    return low - room, high + room

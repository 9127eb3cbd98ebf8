"""Accuracy against a cost, with the Pareto front, as inline SVG: colours come from the page, so that it is dark with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 620, 400
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 18, 50
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
    log = max(d.x for d in dots) > LOG_SPAN * min(d.x for d in dots)
    along = math.log if log else float
    x0, x1 = _widened(min(along(d.x) for d in dots), max(along(d.x) for d in dots), 0.06)
    y0, y1 = _widened(min(d.y for d in dots), max(d.y for d in dots), 0.09)

    def px(x: float) -> float:
        return LEFT + (along(x) - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        return TOP + (y1 - y) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(ylabel)} by {escape(xlabel)}">'
    ]
    for tick in ticks(y0, y1):
        y = py(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{yform(tick)}</text>')
    base = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    for tick in log_ticks(math.exp(x0), math.exp(x1)) if log else ticks(x0, x1):
        x = px(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{base + 17}" text-anchor="middle">{xform(tick)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    scale = ", log scale" if log else ""
    parts.append(
        f'<text class="name" x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">'
        f"{escape(xlabel)}{scale} · less is better</text>"
    )
    better = "less" if lower_is_better else "more"
    parts.append(
        f'<text class="name" transform="translate(14 {(TOP + base) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(ylabel)} · {better} is better</text>"
    )
    front = sorted((d for d in dots if d.front), key=lambda d: d.x)
    if len(front) > 1:
        path = f"M{px(front[0].x):.1f},{py(front[0].y):.1f}"
        for d in front[1:]:  # a step: between two models there is nothing
            path += f" H{px(d.x):.1f} V{py(d.y):.1f}"
        parts.append(f'<path class="front" d="{path}"/>')
    placed = [(px(d.x) - 6, py(d.y) - 6, px(d.x) + 6, py(d.y) + 6) for d in dots]
    labels = []
    for d in sorted(dots, key=lambda d: (not d.front, not d.dense, d.x)):
        x, y = px(d.x), py(d.y)
        kind = ("dense " if d.dense else "") + ("best" if d.front else "other")
        body = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{5 if d.front else 4}"/>'
        if d.dense:
            body = f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" transform="rotate(45 {x:.1f} {y:.1f})"/>'
        if d.front and not d.dense and math.isfinite(d.low) and math.isfinite(d.high):
            top, bottom = max(TOP, py(d.high)), min(base, py(d.low))
            body = f'<line class="interval" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>' + body
        parts.append(f'<g class="{kind}"><title>{escape(d.tip)}</title>{body}</g>')
        if d.front or d.dense:
            labels.append(_label(d.label, x, y, placed))
    return "".join([*parts, *labels, "</svg>"])


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

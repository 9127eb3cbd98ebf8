"""Which units stay, given their scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def best(scores: np.ndarray, count: int, sections: int = 1) -> np.ndarray:
    """The `count` best units in their order, the same number from each of the equal sections; among equals the first."""
    per = len(scores) // sections
    rows = scores.reshape(sections, per)
    order = np.argsort(-rows, axis=1, kind="stable")[:, : count // sections]
    return np.sort((order + per * np.arange(sections)[:, None]).ravel())


def rounded(amount: float, count: int, multiple: int, minimum: int) -> int:
    """The multiple nearest to `amount` that is at least `minimum` and 1, and at most `count` (all is always possible)."""
    if amount >= count:
        return count
    least = multiple * -(-max(minimum, 1) // multiple)
    return min(count, max(least, multiple * round(amount / multiple)))


def spread(scores: Sequence[np.ndarray], total: float, multiples: Sequence[int], minimums: Sequence[int]) -> list[int]:
    """How many units each group keeps if the best `total` stay wherever they are.

    Args:
        scores: of each group, comparable.
        total: how many units stay in all.
        multiples: each group keeps a multiple of its own, or all.
        minimums: the least number that each group keeps.
    """
    found: list[int] = []
    chunks: list[tuple[float, int, int]] = []  # (-score of a unit, group, units): a group's best come first
    for index, (values, multiple, minimum) in enumerate(zip(scores, multiples, minimums, strict=True)):
        ordered = np.sort(values)[::-1]
        begin = min(len(ordered), multiple * -(-minimum // multiple))
        found.append(begin)
        chunks += [
            (-float(ordered[at : at + multiple].mean()), index, len(ordered[at : at + multiple]))
            for at in range(begin, len(ordered), multiple)
        ]
    left = total - sum(found)
    for _, index, units in sorted(chunks, key=lambda chunk: chunk[0]):
        if left < units / 2:
            break
        found[index] += units
        left -= units
    return found

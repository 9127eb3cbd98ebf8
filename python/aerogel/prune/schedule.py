"""How sparsity rises over the steps of gradual pruning (Zhu and Gupta, arXiv 1710.01878)."""

from __future__ import annotations

from aerogel._util.checks import number, whole_number
from aerogel.errors import RecipeError


def cubic(t: float, initial: float, final: float, duration: float = 1.0) -> float:
    """The sparsity at time t: it rises fast at first and slowly at the end.

    s(t) = final + (initial - final) (1 - t / duration)^3, `final` from t = duration on.
    """
    final = number("sparsity: final", final, 0, 1, RecipeError)
    initial = number("sparsity: initial", initial, 0, final, RecipeError)
    t, duration = number("t", t, error=RecipeError), number("duration", duration, 0, error=RecipeError)
    if t >= duration:
        return final
    return final + (initial - final) * (1 - max(t, 0.0) / duration) ** 3


def cubic_steps(initial: float, final: float, count: int) -> list[float]:
    """`count` sparsities on the cubic curve, the last one `final`, none of them `initial`."""
    count = whole_number("count", count, 0, error=RecipeError)
    return [cubic((i + 1) / count, initial, final) for i in range(count)]

"""How sparsity rises over the steps of gradual pruning (Zhu and Gupta, arXiv 1710.01878)."""

from __future__ import annotations

from aerogel.errors import RecipeError


def cubic(t: float, initial: float, final: float, duration: float = 1.0) -> float:
    """The sparsity at time t: it rises fast at first and slowly at the end.

    s(t) = final + (initial - final) (1 - t / duration)^3, `final` from t = duration on.
    """
    if not 0 <= initial <= final <= 1:
        raise RecipeError(f"sparsity: expected 0 <= initial <= final <= 1, got {initial} to {final}")
    if t >= duration:
        return final
    return final + (initial - final) * (1 - max(t, 0.0) / duration) ** 3


def cubic_steps(initial: float, final: float, count: int) -> list[float]:
    """`count` sparsities on the cubic curve, the last one `final`, none of them `initial`."""
    return [cubic((i + 1) / count, initial, final) for i in range(count)]

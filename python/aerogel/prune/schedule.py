"""How sparsity rises over the steps of gradual pruning."""

from __future__ import annotations


def cubic(first: float, last: float, steps: int) -> list[float]:
    """`steps` rising sparsities from `first` to `last`, ever closer together (Zhu and Gupta, arXiv 1710.01878):

    s[i] = last + (first - last) (1 - i / (steps - 1))^3
    """
    if steps == 1:
        return [last]
    return [last + (first - last) * (1 - i / (steps - 1)) ** 3 for i in range(steps)]

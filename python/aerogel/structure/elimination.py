"""Backward elimination of inputs by the Optimal Brain Surgeon, in blocks (ZipLM, arXiv 2302.04089).

If the rest makes up for it by least squares, removing the inputs u (a block of columns) of y = W x costs

    E |dy|^2 = trace(W_u ([G^-1]_uu)^-1 W_u^T)        G = E[x x^T] + lambda I

The cheapest blocks go; W and G^-1 then follow from one block step of Gaussian elimination,

    W    <- W    - W_u    ([G^-1]_uu)^-1 [G^-1]_u,:
    G^-1 <- G^-1 - [G^-1]_:,u ([G^-1]_uu)^-1 [G^-1]_u,:

and so on until all are gone. Some are removed at a time, each time the same small part of what is left: one by one is
hardly better and far slower.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: The part of the remaining units that is removed before the costs are computed anew.
STEP = 0.04


def eliminate(
    linears: Sequence[tuple[np.ndarray, np.ndarray, int]], damping: float = 0.01, step: float = STEP
) -> np.ndarray:
    """float64 [units]: the higher, the later a unit goes; what it cost when it went, never less than one before it.

    Args:
        linears: (weight float32 [N, K], gram float32 [K, K], entries of a unit) of each linear that reads the units; costs
            are relative to each linear's output and summed.
        damping: lambda, as a multiple of the mean of G's diagonal.
        step: part of the remaining units that goes at a time.
    """
    states = [_State(weight, gram, size, damping) for weight, gram, size in linears]
    left = np.arange(states[0].units)
    scores = np.zeros(states[0].units)
    floor = 0.0
    while len(left):
        costs = sum((state.costs(len(left)) for state in states), np.zeros(()))
        order = np.argsort(costs, kind="stable")
        count = min(len(left), max(1, int(step * len(left))))
        going = np.sort(order[:count])
        for unit in order[:count]:
            floor = max(floor, costs[unit])
            scores[left[unit]] = floor
        if count == len(left):
            break
        for state in states:
            state.remove(going, len(left))
        left = np.delete(left, going)
    return scores


class _State:
    """What is left of one linear."""

    def __init__(self, weight: np.ndarray, gram: np.ndarray, size: int, damping: float) -> None:
        self.w = np.asarray(weight, np.float64)
        g = np.array(gram, np.float64)
        self.whole = float(np.einsum("nk,nk->", self.w @ g, self.w)) or 1.0
        g[np.diag_indices_from(g)] += damping * float(g.diagonal().mean()) or 1.0
        self.inverse = np.linalg.inv(g)
        self.size = size
        self.units = self.w.shape[1] // size

    def costs(self, units: int) -> np.ndarray:
        if self.size == 1:
            alone: np.ndarray = np.square(self.w).sum(axis=0) / self.inverse.diagonal() / self.whole
            return alone
        size = self.size
        w = self.w.reshape(-1, units, size)
        at = np.arange(units)
        blocks = self.inverse.reshape(units, size, units, size)[at, :, at, :]  # [units, size, size]
        inner = np.einsum("nui,nuj->uij", w, w)
        together: np.ndarray = np.trace(np.linalg.solve(blocks, inner), axis1=1, axis2=2) / self.whole
        return together

    def remove(self, going: np.ndarray, units: int) -> None:
        columns = (going[:, None] * self.size + np.arange(self.size)).ravel()
        stay = np.delete(np.arange(units * self.size), columns)
        rows = self.inverse[columns]
        pivot = np.linalg.solve(rows[:, columns], rows[:, stay])
        self.w = self.w[:, stay] - self.w[:, columns] @ pivot
        self.inverse = self.inverse[np.ix_(stay, stay)] - self.inverse[np.ix_(stay, columns)] @ pivot

"""The best mask and the best values together: ADMM with a rising penalty, after ALPS (Meng et al., arXiv 2406.07831).

    minimise tr((W - V) H (W - V)^T) over V with the pattern        H = gram + damping

Columns are scaled so that H has a unit diagonal. Then V may leave the pattern and D may not, and a penalty rho draws
them together:

    V = (W H + rho (D - U)) (H + rho I)^-1        D = V + U where the pattern keeps |V + U|, else 0        U = U + V - D

Small penalties let weights that other weights can stand in for go; large ones settle the mask. At the end the values are
solved for again on the mask alone (`refit`). What one step costs is one product [N,K] x [K,K].
"""

from __future__ import annotations

import numpy as np

from aerogel._util.checks import whole_number
from aerogel.calibrate.statistics import Statistics
from aerogel.errors import RecipeError
from aerogel.prune.contract import Pruned, checked_inputs, checked_pattern
from aerogel.prune.obs import check_damping
from aerogel.prune.pattern import Pattern
from aerogel.prune.refit import refit
from aerogel.prune.sweep import damped

#: Penalties, as multiples of the (unit) diagonal, and steps with each. Twice the steps gain about 2 % of the error.
PENALTIES = tuple(0.1 * 2**i for i in range(6))
STEPS = 5


def admm(
    weight: np.ndarray,
    statistics: Statistics | None,
    pattern: Pattern,
    *,
    damping: float = 0.01,
    steps: int = STEPS,
) -> Pruned:
    """Prunes to the pattern with the smallest change of the layer's output that it finds.

    Args:
        weight: float32 [N,K], finite. Zeros stay zero.
        statistics: what calibration saw at the input [., K]; the gram matrix may be singular.
        pattern: how many may stay, and where.
        damping: fraction of the mean diagonal of the gram matrix that is added to it.
        steps: ADMM steps at each penalty; more steps find slightly better masks.
    """
    weight, statistics = checked_inputs(weight, statistics)
    pattern = checked_pattern(pattern)
    steps = whole_number("steps", steps, 1, error=RecipeError)
    check_damping(damping)
    if weight.size == 0:
        return Pruned(np.zeros(weight.shape, np.float32), np.zeros(weight.shape, bool))
    h = damped(statistics.gram, damping)
    norms = np.sqrt(h.diagonal())
    h = (h / norms / norms[:, None]).astype(np.float32)
    norms = norms.astype(np.float32)
    target = weight * norms
    mask, value = _search(target, h, pattern, weight == 0, steps)
    value = refit(target, h, mask, value)
    value /= norms
    return Pruned(value, mask)


def _search(
    target: np.ndarray, h: np.ndarray, pattern: Pattern, zero: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    product = target @ h
    mask = pattern.keep(np.abs(target)) & ~zero
    inside = np.where(mask, target, np.float32(0))  # D
    dual = np.zeros_like(target)  # U
    locked = zero.any()
    last = None
    for penalty in map(np.float32, PENALTIES):
        shifted = h.copy()
        shifted.flat[:: len(h) + 1] += penalty
        inverse = np.linalg.inv(shifted)
        base = product @ inverse
        inverse *= penalty
        if last is not None:
            dual *= last / penalty
        last = penalty
        for _ in range(steps):
            inside -= dual
            dual += inside @ inverse
            dual += base  # V + U
            score = np.abs(dual)
            if locked:
                score[zero] = 0
            mask = pattern.keep(score)
            if locked:
                mask &= ~zero
            inside = np.where(mask, dual, np.float32(0))
            dual[mask] = 0
    return mask, inside

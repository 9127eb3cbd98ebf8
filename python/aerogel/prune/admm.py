"""The best mask and the best values together: ADMM with a rising penalty, after ALPS (Meng et al., arXiv 2406.07831).

    minimise tr((W - V) H (W - V)^T) over V with the pattern        H = gram + damping

Columns are scaled so that H has a unit diagonal. Then V may leave the pattern and D may not, and a penalty rho draws
them together:

    V = (W H + rho (D - U)) (H + rho I)^-1        D = V + U where the pattern keeps |V + U|, else 0        U = U + V - D

which is computed as V + U = Y + (D - Y) rho (H + rho I)^-1 with Y = W + U.

With `Statistics.moves`, S, errors count as much as they move the model's output, tr(S (W - V) H (W - V)^T): rows are scaled
so that S has a unit diagonal, too, which decides how many weights each row keeps; and at the end rows make up for each
other's errors (`refit_rows`, in place of `refit`).

Small penalties let weights that other weights can stand in for go; large ones settle the mask. At the end the values are
solved for again on the mask alone (`refit`). What one step costs is one product [N,K] x [K,K].
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aerogel._util.checks import whole_number
from aerogel._util.workers import side_by_side
from aerogel.calibrate.statistics import Statistics
from aerogel.errors import RecipeError, ShapeError
from aerogel.prune.contract import Pruned, checked_inputs, checked_pattern
from aerogel.prune.inverse import inverse
from aerogel.prune.obs import check_damping
from aerogel.prune.pattern import Pattern
from aerogel.prune.products import product
from aerogel.prune.refit import refit, refit_rows
from aerogel.prune.sweep import damped

#: Penalties, as multiples of the (unit) diagonal, and steps with each. Twice the steps gain about 2 % of the error.
PENALTIES = tuple(0.1 * 2**i for i in range(6))
STEPS = 5
#: The part of the identity in how errors of rows count: gradients of a few thousand tokens are an estimate.
SHRINK = 0.1
#: Inverses for all penalties are made side by side if they are not larger together.
MOST_BYTES = 1 << 28


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
        statistics: what calibration saw at the input [., K]; the gram matrix may be singular. Its `moves`, if known, say how
            errors of the N results count.
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
    moves = _moves(statistics, len(weight))
    lengths = np.sqrt(moves if moves.ndim == 1 else moves.diagonal())[:, None]
    target *= lengths
    mask, value = _search(target, h, pattern, weight == 0, steps)
    if moves.ndim == 2:  # on two layers of a MiniLM `refit` before it lowers the error by a ten-thousandth
        value = refit_rows(target, h, moves / lengths / lengths.T, mask, value)
    else:
        value = refit(target, h, mask, value)
    value /= norms
    value /= lengths
    return Pruned(value, mask)


def _moves(statistics: Statistics, rows: int) -> np.ndarray:
    """float32 [N, N] or [N] with a mean diagonal of 1: `Statistics.moves` and a part of the identity."""
    moves = statistics.moves
    if moves is None:
        return np.ones(rows, np.float32)
    if len(moves) != rows:
        raise ShapeError(f"moves: expected {rows} outputs, got {len(moves)}")
    diagonal = moves if moves.ndim == 1 else moves.diagonal()
    mean = float(diagonal.mean(dtype=np.float64))
    if not mean > 0:  # nothing that comes after reads it
        return np.ones(rows, np.float32)
    part: np.ndarray = moves * np.float32((1 - SHRINK) / mean)
    part[np.diag_indices(rows) if moves.ndim == 2 else slice(None)] += np.float32(SHRINK)
    return part


def _search(
    target: np.ndarray, h: np.ndarray, pattern: Pattern, zero: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    mask = pattern.keep(np.abs(target)) & ~zero
    inside = np.where(mask, target, np.float32(0))  # D
    shifted = target.copy()  # W + U
    locked = zero.any()
    last = None
    moved, score = np.empty_like(target), np.empty_like(target)
    for penalty, part in zip(map(np.float32, PENALTIES), _parts(h), strict=True):
        if last is not None:  # U is in units of the penalty
            shifted -= target
            shifted *= last / penalty
            shifted += target
        last = penalty
        for _ in range(steps):
            inside -= shifted
            shifted += product(inside, part, moved)  # V + U
            np.abs(shifted, out=score)
            if locked:
                score[zero] = 0
            mask = pattern.keep(score)
            if locked:
                mask &= ~zero
            np.multiply(shifted, mask, out=inside)
            shifted -= inside
            shifted += target
    return mask, inside


def _parts(h: np.ndarray) -> Iterator[np.ndarray]:
    """rho (H + rho I)^-1 for each penalty."""

    def part(penalty: np.float32) -> np.ndarray:
        found = h.copy()
        found.flat[:: len(h) + 1] += penalty
        found = inverse(found)
        found *= penalty
        return found

    penalties = [np.float32(penalty) for penalty in PENALTIES]
    if h.nbytes * len(penalties) > MOST_BYTES:
        return map(part, penalties)
    return iter(list(side_by_side(part, penalties)))

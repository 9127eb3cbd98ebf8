"""The best values for the remaining weights: least squares on the support of every row, all rows at once.

    minimise tr((W - V) H (W - V)^T) over V that is 0 outside the mask

by conjugate gradients whose directions stay inside the mask, preconditioned with the diagonal of H (as in ALPS, arXiv
2406.07831). Each row has a step length of its own, so it is one solver a row that shares its matrix products.
"""

from __future__ import annotations

import numpy as np

from aerogel.prune.products import product as product_of

#: Rows whose gradient is this small beside their first are done.
TOLERANCE = 1e-4


def refit(
    weight: np.ndarray, h: np.ndarray, mask: np.ndarray, start: np.ndarray | None = None, steps: int = 20
) -> np.ndarray:
    """The weight values inside the mask that best reproduce the layer's output.

    Args:
        weight: float32 [N,K], the target.
        h: float32 [K,K], positive definite.
        mask: bool [N,K].
        start: float32 [N,K], 0 outside the mask; the weight's own values unless given.
        steps: the most matrix products to do; each one lowers the error.

    Returns:
        float32 [N,K], 0 outside the mask.
    """
    inverse = (1 / h.diagonal()).astype(np.float32)
    value = np.where(mask, weight if start is None else start, np.float32(0))
    residual = product_of(weight - value, h)
    residual *= mask
    direction = residual * inverse
    inner = np.einsum("nk,nk->n", residual, direction)
    enough = inner * np.float32(TOLERANCE) ** 2
    for _ in range(steps):
        active = (inner > enough).astype(np.float32)
        if not active.any():
            break
        product = product_of(direction, h)
        curve = np.einsum("nk,nk->n", direction, product)
        length = np.divide(inner, curve, out=np.zeros_like(inner), where=curve > 0) * active
        value += length[:, None] * direction
        product *= length[:, None]
        product *= mask
        residual -= product
        scaled = residual * inverse
        new = np.einsum("nk,nk->n", residual, scaled)
        direction *= np.divide(new, inner, out=np.zeros_like(inner), where=inner > 0)[:, None]
        direction += scaled
        inner = new
    return value


def refit_rows(
    weight: np.ndarray, h: np.ndarray, moves: np.ndarray, mask: np.ndarray, start: np.ndarray, steps: int = 20
) -> np.ndarray:
    """The weight values inside the mask that least move what comes after: tr(S (W - V) H (W - V)^T), all rows together.

    Where S is not diagonal, rows make up for each other's errors: what one puts wrong in a direction that the output is
    sensitive to, others put right. One solver for the whole matrix, as above.

    Args:
        weight, h, mask, steps: as in `refit`.
        moves: float32 [N,N], S, positive definite.
        start: float32 [N,K], 0 outside the mask.

    Returns:
        float32 [N,K], 0 outside the mask.
    """
    inverse = (1 / np.outer(moves.diagonal(), h.diagonal())).astype(np.float32)
    value: np.ndarray = np.where(mask, start, np.float32(0))
    residual = product_of(moves, product_of(weight - value, h))
    residual *= mask
    direction = residual * inverse
    inner = first = float(np.vdot(residual, direction))
    for _ in range(steps):
        if not inner > first * TOLERANCE**2:
            break
        product = product_of(moves, product_of(direction, h))
        curve = float(np.vdot(direction, product))
        if not curve > 0:
            break
        length = np.float32(inner / curve)
        value += length * direction
        product *= length
        product *= mask
        residual -= product
        scaled = residual * inverse
        new = float(np.vdot(residual, scaled))
        direction *= np.float32(new / inner)
        direction += scaled
        inner = new
    return value

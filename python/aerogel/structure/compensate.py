"""Least squares: weights that make up for inputs that are no longer there.

A linear reads x [K]; the inputs R are removed and the inputs S stay. With G the mean of x x^T,

    W' = argmin  E |W x - W' x_S|^2 + lambda |W' - W_S|^2  =  W_S + W_R G_RS (G_SS + lambda I)^-1

which is what the Optimal Brain Surgeon does for whole columns (arXiv 2302.04089). Where the layers before have changed
already, so that the linear sees x' instead of x, it can make up for that too: with G the mean of x' x'^T and C of x x'^T,

    W' = argmin  E |W x - W' x'_S|^2 + lambda |W' - W_S|^2  =  W_S + (W C_:S - W_S G_SS) (G_SS + lambda I)^-1

Where the mean of x is known and the linear has a bias, G is taken around the mean, and the bias takes up the mean of what
is lost. lambda is `damping` times the mean of G_SS's diagonal: it pulls towards the old weights, so that inputs which are
nearly copies of each other, or too little text, do no harm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aerogel._util.checks import array, float32, number, shown
from aerogel.errors import DataError, RecipeError, ShapeError


class Compensated(NamedTuple):
    """`weight` float32 [N, S]; `shift` float32 [N], to be added to the bias (None unless the mean was given)."""

    weight: np.ndarray
    shift: np.ndarray | None


def _finite(name: str, values: np.ndarray, dimensions: int) -> np.ndarray:
    values = float32(name, values, dimensions)
    if not np.isfinite(values).all():
        raise DataError(f"{name}: holds NaN or infinite values")
    return values


def compensate(
    weight: np.ndarray,
    gram: np.ndarray,
    kept: np.ndarray,
    damping: float = 0.01,
    mean: np.ndarray | None = None,
    cross: np.ndarray | None = None,
) -> Compensated:
    """The weights of a linear that reads only the inputs `kept`.

    Args:
        weight: float32 [N, K].
        gram: float32 [K, K], the mean of x x^T.
        kept: integers [S], in order, the inputs that stay.
        damping: not negative; 0 is plain least squares.
        mean: float32 [K], the mean of x.
        cross: float32 [K, K], the mean of x x'^T where `gram` is that of x' x'^T; not together with a mean.

    Raises:
        ShapeError: the shapes contradict each other.
        RecipeError: the kept inputs depend on each other and damping is 0.
    """
    weight, gram = _finite("weight", weight, 2), _finite("gram", gram, 2)
    mean = None if mean is None else _finite("mean", mean, 1)
    cross = None if cross is None else _finite("cross", cross, 2)
    damping = number("damping", damping, 0, error=RecipeError)
    n, k = weight.shape
    for name, values, expected in (("gram", gram, (k, k)), ("mean", mean, (k,)), ("cross", cross, (k, k))):
        if values is not None and values.shape != expected:
            raise ShapeError(f"{name}: expected {list(expected)}, got {list(values.shape)}")
    kept = array("kept", kept, 1, kinds="iu").astype(np.int64)
    if len(kept) and (kept[0] < 0 or kept[-1] >= k or (np.diff(kept) <= 0).any()):
        raise ShapeError(f"kept: expected rising numbers from 0 to {k - 1}, got {shown(kept.tolist())}")
    if mean is not None and cross is not None:
        raise RecipeError("compensate: a mean and inputs that have changed exclude each other")
    gone = np.setdiff1d(np.arange(k), kept, assume_unique=True)
    w = np.asarray(weight, np.float64)
    g = np.asarray(gram, np.float64)
    if mean is not None:
        mu = np.asarray(mean, np.float64)
        g = g - np.outer(mu, mu)
    stay = w[:, kept]
    if len(kept) and (len(gone) or cross is not None):
        square = g[np.ix_(kept, kept)]
        level = float(square.diagonal().mean())
        if level > 0:  # else what stays is always 0 and makes up for nothing
            lost = w[:, gone] @ g[np.ix_(gone, kept)] if cross is None else w @ cross[:, kept] - stay @ square
            square[np.diag_indices_from(square)] += damping * level
            try:
                stay = stay + np.linalg.solve(square, lost.T).T
            except np.linalg.LinAlgError as error:
                raise RecipeError("damping: expected more, as the inputs that stay depend on each other") from error
    if mean is None:
        return Compensated(np.ascontiguousarray(stay, np.float32), None)
    shift = w[:, gone] @ mu[gone] - (stay - w[:, kept]) @ mu[kept]
    return Compensated(np.ascontiguousarray(stay, np.float32), shift.astype(np.float32))

"""What a layer should be pruned towards when the layers before it are pruned already.

The layer then sees inputs p instead of the dense model's x, and the best it can do, before it loses a weight, is not W but

    T = argmin mean |T p - (W x + e)|^2 + lambda |T - W|^2 = (W C + E + lambda W) (G + lambda I)^-1

with G = mean p p^T, C = mean x p^T, and E = mean e p^T where more than W x is to be reached: e is what the residual
stream, to which the layer's output is added, lacks of the dense one. Pruning T with the statistics of p then has the whole
problem's solution: mean |V p - (W x + e)|^2 differs from tr((T - V) G (T - V)^T) by what no V can change.
"""

from __future__ import annotations

import numpy as np

from aerogel._util.checks import float32 as as_float32
from aerogel.errors import DataError, ShapeError
from aerogel.prune.contract import checked_weight
from aerogel.prune.inverse import divided
from aerogel.prune.obs import check_damping
from aerogel.prune.products import product
from aerogel.prune.sweep import damped


def corrected_target(
    weight: np.ndarray,
    gram: np.ndarray,
    cross: np.ndarray,
    lacking: np.ndarray | None = None,
    damping: float = 0.01,
    keep_zeros: bool = True,
) -> np.ndarray:
    """The dense weights that compensate for the errors of earlier layers.

    With inputs that have their mean taken off, gram, cross and lacking are covariances, and the bias is free to become
    mean(W x + b + e) - V mean(p) afterwards.

    Args:
        weight: float32 [N,K], the dense model's.
        gram: float32 [K,K], mean p p^T, p the inputs with the layers before as they are now.
        cross: float32 [K,K], mean x p^T, x the dense model's inputs of the same tokens.
        lacking: float32 [N,K], mean e p^T; None: nothing.
        damping: how strongly T is pulled towards W, as a fraction of the mean diagonal of gram.
        keep_zeros: zeros of the weight stay zero, even where other values could compensate for more.

    Returns:
        float32 [N,K].
    """
    weight = checked_weight(weight)
    check_damping(damping)
    n, k = weight.shape
    arrays: dict[str, np.ndarray] = {}
    for name, array, shape in (("gram", gram, (k, k)), ("cross", cross, (k, k)), ("lacking", lacking, (n, k))):
        if array is None and name == "lacking":
            continue
        array = arrays[name] = as_float32(name, array, 2)
        if array.shape != shape:
            raise ShapeError(f"{name}: expected {list(shape)}, got {list(array.shape)}")
        if not np.isfinite(array.sum(dtype=np.float64)):
            raise DataError(f"{name}: holds NaN or infinite values")
    gram, cross, lacking = arrays["gram"], arrays["cross"], arrays.get("lacking")
    h = damped(gram, damping)
    # as a change of W, which is 0 if nothing has changed: W C + E - W G = (T - W) (G + lambda I)
    change = np.zeros((n, k))
    if cross is not gram:
        product(weight.astype(np.float64), cross.astype(np.float64) - gram, change)
    if lacking is not None:
        change += lacking
    target: np.ndarray = weight + divided(change, h)
    if keep_zeros:
        target[weight == 0] = 0
    return target.astype(np.float32)

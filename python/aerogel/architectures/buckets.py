"""Distances of two tokens in buckets, as T5 has them (arXiv 1910.10683): near ones single, far ones together."""

from __future__ import annotations

import math

import numpy as np


def distance_buckets(buckets: int, far: int) -> np.ndarray:
    """int64 [2 far + 1]: the bucket of a key that stands -far .. far places after the query.

    Half of the buckets are for keys before the query and the query itself, the others for those after it. Of a side, half
    are single distances, and half grow by equal factors until `far`, from where on all are in the last one.
    """
    side = buckets // 2
    exact = side // 2
    distances = np.arange(1, far + 1)
    # In float32, as the weights were trained with it: a bucket's border may be a whole number.
    growth = np.log(distances.astype(np.float32) / np.float32(exact)) / np.float32(math.log(far / exact))
    wide = np.minimum(exact + (growth * np.float32(side - exact)).astype(np.int64), side - 1)
    one_side = np.where(distances < exact, distances, wide)
    return np.concatenate([one_side[::-1], [0], side + one_side])

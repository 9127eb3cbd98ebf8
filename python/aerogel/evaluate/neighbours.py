"""Which of a set of texts are nearest to each: what a search index is asked, and what compression must not change."""

from __future__ import annotations

import numpy as np

from aerogel._util.checks import array, whole_number
from aerogel.errors import DataError, ShapeError

#: Rows of similarities that are looked at at once: 2,000 texts take 4 MB.
ROWS = 512


def nearest(embeddings: np.ndarray, count: int = 10) -> np.ndarray:
    """Of each row, the `count` other rows with the highest cosine, in no order.

    Args:
        embeddings: float [n, width].
        count: fewer than n.

    Returns:
        int64 [n, count].

    Raises:
        DataError: there are not more than `count` rows.
    """
    rows: np.ndarray = array("embeddings", embeddings, 2).astype(np.float32)
    count = whole_number("count", count, 1)
    if len(rows) <= count:
        raise DataError(f"embeddings: expected more than {count}, each with {count} neighbours, got {len(rows)}")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(norms > 0, norms, 1)
    found = np.empty((len(rows), count), np.int64)
    for begin in range(0, len(rows), ROWS):
        similar = rows[begin : begin + ROWS] @ rows.T
        places = np.arange(len(similar))
        similar[places, begin + places] = -np.inf  # itself
        found[begin : begin + ROWS] = np.argpartition(-similar, count - 1, axis=1)[:, :count]
    return found


def overlap(a: np.ndarray, b: np.ndarray, count: int = 10) -> np.ndarray:
    """Of each text, the share of its `count` nearest by one model that are among the nearest by another, float64 [n].

    Args:
        a: one model's embeddings, float [n, width].
        b: the other's, of the same texts; the width may differ.
        count: neighbours of each; fewer than n.
    """
    if len(a) != len(b):
        raise ShapeError(f"b: expected {len(a)} embeddings, as many as a, got {len(b)}")
    first, second = nearest(a, count), nearest(b, count)
    # No place is twice in a row, so the equal pairs are the common ones.
    common: np.ndarray = (first[:, :, None] == second[:, None, :]).sum(axis=(1, 2)) / count
    return common

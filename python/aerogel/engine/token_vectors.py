"""Vectors and weights of a text's tokens, for late interaction and for search by words."""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np

#: Outputs that are vectors of tokens -> how many of the first are not of the text.
VECTORS = {"tokens": 0, "colbert": 1}
LEXICAL = "lexical"


def lexical_weights(
    ids: Sequence[Sequence[int]], rows: Sequence[np.ndarray], unused: Set[int]
) -> list[dict[int, float]]:
    """Of each text the largest weight of every token that it has, where that is above 0.

    Args:
        ids: tokens of each text.
        rows: float32 [t, 1] of each, their weights.
        unused: tokens that stand for no words.
    """
    found: list[dict[int, float]] = []
    for tokens, weights in zip(ids, rows, strict=True):
        largest: dict[int, float] = {}
        for token, weight in zip(tokens, weights[:, 0].tolist(), strict=True):
            if token not in unused and weight > largest.get(token, 0.0):
                largest[token] = weight
        found.append(largest)
    return found


def maxsim(query: np.ndarray, document: np.ndarray) -> float:
    """How well a document answers a query (ColBERT, arXiv 2004.12832): for each vector of the query the best dot product
    with one of the document, summed.

    Args:
        query: float32 [q, d].
        document: float32 [t, d].
    """
    return float((query @ document.T).max(axis=1).sum())

"""What is done to embeddings after a model has made them: cut, scaled, coded in fewer bits, compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aerogel._util.checks import array, one_of
from aerogel.errors import DataError, ShapeError

#: The types that embeddings can be returned in, by the words of sentence-transformers.
PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
_TINY = np.float32(1e-12)


def shortened(embeddings: np.ndarray, dimensions: int | None) -> np.ndarray:
    """The first `dimensions` numbers of each; all of them if it is None or more. Matryoshka models (arXiv 2205.13147) put
    what matters most first."""
    if dimensions is None or dimensions >= embeddings.shape[1]:
        return embeddings
    kept: np.ndarray = embeddings[:, :dimensions].copy()
    return kept


def normalized(embeddings: np.ndarray) -> np.ndarray:
    """float32 [n, d], each row of length 1; a row of zeros stays one."""
    result: np.ndarray = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), _TINY)
    return result


def quantized(embeddings: np.ndarray, precision: str) -> np.ndarray:
    """Embeddings in fewer bits, as sentence-transformers codes them.

    Args:
        embeddings: float32 [n, d].
        precision: "float32": as they are; "int8", "uint8": [n, d], each dimension's range over these embeddings in 255
            equal steps; "binary", "ubinary": int8 or uint8 [n, ceil(d / 8)], one bit a number, set where it is positive,
            the first in the highest place ("binary": minus 128).

    Raises:
        DataError: one embedding alone has no range for int8 and uint8.
    """
    if precision == "float32":
        return embeddings
    if precision in ("binary", "ubinary"):
        bits = np.packbits(embeddings > 0, axis=-1)
        return bits if precision == "ubinary" else (bits ^ 128).view(np.int8)  # minus 128, in eight bits
    if len(embeddings) == 1:
        raise DataError(
            f"precision {precision}: expected at least 2 texts, as their embeddings give each dimension's range, got 1"
        )
    if not len(embeddings):
        return np.empty(embeddings.shape, precision)
    low = embeddings.min(axis=0)
    steps = (embeddings.max(axis=0) - low) / 255
    codes: np.ndarray = np.clip(np.floor((embeddings - low) / np.where(steps == 0, 1, steps)), 0, 255)
    return codes.astype(np.uint8) if precision == "uint8" else np.asarray(codes - 128, np.int8)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    result: np.ndarray = normalized(a) @ normalized(b).T
    return result


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    result: np.ndarray = a @ b.T
    return result


def _euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # Row by row: |a|^2 + |b|^2 - 2 ab would lose what near neighbours differ by.
    return np.stack([-np.linalg.norm(row - b, axis=1) for row in a]) if len(a) else np.empty((0, len(b)), np.float32)


def _manhattan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([-np.abs(row - b).sum(axis=1) for row in a]) if len(a) else np.empty((0, len(b)), np.float32)


#: Name -> function of [n, d] and [m, d] that gives [n, m]: the larger, the more alike.
SIMILARITIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}
_PAIRWISE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cosine": lambda a, b: np.einsum("nd,nd->n", normalized(a), normalized(b)),
    "dot": lambda a, b: np.einsum("nd,nd->n", a, b),
    "euclidean": lambda a, b: -np.linalg.norm(a - b, axis=1),
    "manhattan": lambda a, b: -np.abs(a - b).sum(axis=1),
}


def similarity(name: str, first: Any, second: Any) -> np.ndarray:
    """float32 [n, m]: how alike each of `first` [n, d] is to each of `second` [m, d]; one embedding [d] is a row of one.

    Args:
        name: "cosine", "dot", or minus a distance: "euclidean", "manhattan".

    Raises:
        ShapeError: the widths differ.
    """
    one_of("similarity", name, SIMILARITIES)
    a, b = _rows("embeddings1", first), _rows("embeddings2", second)
    if a.shape[1] != b.shape[1]:
        raise ShapeError(f"embeddings: expected two of one width, got {a.shape[1]} and {b.shape[1]}")
    return SIMILARITIES[name](a, b).astype(np.float32, copy=False)


def pairwise_similarity(name: str, first: Any, second: Any) -> np.ndarray:
    """float32 [n]: how alike row i of `first` [n, d] is to row i of `second` [n, d].

    Raises:
        ShapeError: the shapes differ.
    """
    one_of("similarity", name, SIMILARITIES)
    a, b = _rows("embeddings1", first), _rows("embeddings2", second)
    if a.shape != b.shape:
        raise ShapeError(f"embeddings: expected two of one shape, got {list(a.shape)} and {list(b.shape)}")
    return _PAIRWISE[name](a, b).astype(np.float32, copy=False)


def _rows(name: str, values: Any) -> np.ndarray:
    """float32 [n, d] of an array, a tensor, or a list of either."""
    if isinstance(values, (list, tuple)) and len(values) and not np.isscalar(values[0]):
        rows = [array(name, value, 1) for value in values]
        widths = {len(row) for row in rows}
        if len(widths) > 1:
            raise ShapeError(f"{name}: expected rows of one width, got {', '.join(map(str, sorted(widths)))!s:.80}")
        values = np.stack(rows)
    found = array(name, values).astype(np.float32)
    if found.ndim == 1:
        found = found[None]
    if found.ndim != 2:
        raise ShapeError(f"{name}: expected [n, width] or [width], got {list(found.shape)}")
    return found

"""What turns a classifier's raw scores into what sentence-transformers' CrossEncoder gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from aerogel._util.checks import items, one_of
from aerogel._util.checks import texts as check_texts
from aerogel.errors import DataError, ShapeError, UnsupportedModelError

#: Of float32 [n, labels], of the same shape.
Activation: TypeAlias = Callable[[np.ndarray], np.ndarray]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))  # does not overflow
    result: np.ndarray = np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)
    return result


def _softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    result: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return result


ACTIVATIONS: dict[str, Activation] = {
    "identity": lambda x: x,
    "sigmoid": _sigmoid,
    "softmax": _softmax,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
}


def activation(wanted: str | Activation | None, said: str | None, labels: int) -> Activation:
    """The function for the scores: the caller's, else the one that the model's files name, else by the number of labels.

    Raises:
        UnsupportedModelError: the files name one that aerogel does not have.
    """
    if callable(wanted):
        return wanted
    if wanted is not None:
        return ACTIVATIONS[one_of("activation_fn", wanted, ACTIVATIONS)]
    if said is None:
        return ACTIVATIONS["sigmoid" if labels == 1 else "identity"]
    name = said.rpartition(".")[2].lower()
    if name not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"activation_fn: expected one of {', '.join(ACTIVATIONS)}, got {said!r:.80}: give predict(activation_fn=)"
        )
    return ACTIVATIONS[name]


def activated(function: Activation, raw: np.ndarray, softmax: bool) -> np.ndarray:
    """float32 [n] of one label, else [n, labels].

    Args:
        function: of the scores.
        raw: float32 [n, labels].
        softmax: whether scores of several labels are made to sum to 1 afterwards.
    """
    if not len(raw):
        return raw[:, 0] if raw.shape[1] == 1 else raw
    found = np.asarray(function(raw), np.float32)
    if found.shape != raw.shape:
        raise ShapeError(f"activation_fn: expected scores {list(raw.shape)} back, got {list(found.shape)}")
    if raw.shape[1] == 1:
        return found[:, 0]
    return _softmax(found) if softmax else found


def is_single(pairs: Any) -> bool:
    """Whether it is one pair of texts, not a list of pairs."""
    return len(pairs) > 0 and isinstance(pairs[0], str)


def is_pairs(rows: Sequence[Any]) -> bool:
    """Whether it is a list of pairs, not of texts."""
    return len(rows) > 0 and not isinstance(rows[0], str)


def split_pairs(pairs: Any) -> tuple[bool, list[str], list[str]]:
    """Whether it was a single pair; the first and the second texts.

    Raises:
        DataError: something else than pairs of texts.
    """
    rows = items("pairs", pairs)
    single = is_single(rows)
    if single:
        rows = [rows]
    split: Sequence[list[str]] = [check_texts(f"pairs[{i}]", _pair(i, row)) for i, row in enumerate(rows)]
    return single, [pair[0] for pair in split], [pair[1] for pair in split]


def _pair(number: int, row: Any) -> list[Any]:
    found = items(f"pairs[{number}]", row)
    if len(found) != 2:
        raise DataError(f"pairs[{number}]: expected two texts, got {len(found)}")
    return found

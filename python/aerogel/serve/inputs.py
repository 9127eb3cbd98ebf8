"""Texts of requests, which may come as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aerogel.serve.failures import Failure
from aerogel.serve.shapes import Inputs

if TYPE_CHECKING:
    from aerogel.engine.model import Model


def rows(inputs: Inputs, field: str) -> tuple[bool, list[str | list[int]]]:
    """Whether it was a single one; the texts, or the token ids of each.

    Raises:
        Failure: numbers stand among texts.
    """
    if isinstance(inputs, str):
        return True, [inputs]
    if inputs and all(isinstance(one, int) for one in inputs):
        return True, [[one for one in inputs if isinstance(one, int)]]
    found: list[str | list[int]] = []
    for one in inputs:
        if isinstance(one, int):
            raise Failure("type", f"{field}: expected texts, or lists of token ids, got a number among them", field)
        if isinstance(one, list) and not one:
            raise Failure("value", f"{field}: expected token ids, got an empty list", field)
        found.append(one)
    return False, found


def check_ids(model: Model, ids: Sequence[int], field: str) -> None:
    """Refuses token ids that the model does not have."""
    most = model.vocab_size
    wrong = next((one for one in ids if not 0 <= one < most), None)
    if wrong is not None:
        raise Failure("value", f"{field}: expected token ids from 0 to {most - 1}, got {wrong}", field)


def as_texts(model: Model, found: Sequence[str | list[int]], field: str) -> list[str]:
    """Texts; of token ids those that they stand for, as text-embeddings-inference does it."""
    texts = []
    for one in found:
        if not isinstance(one, str):
            check_ids(model, one, field)
            one = model.tokenizer.decode(one)
        texts.append(one)
    return texts

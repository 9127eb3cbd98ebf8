"""Texts as a model runs them: the sequences that go in, and what is made of the rows that come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aerogel.errors import DataError


@dataclass(frozen=True)
class Work:
    """Sequences for one output of a model. They may be run in any order, in any company.

    Attributes:
        output: of the model.
        ids: token ids of each sequence; an empty one is a row of zeros and is not run.
        types: token types of each sequence; None: all 0.
        each_token: whether what comes out is a row of each token, or else one of each sequence.
        width: of a row.
        finish: makes of rows float32 [k, width] those that the caller is given: of sequences, any of them together; of
            tokens, those of one sequence.
        batch_tokens: the most tokens at once where a row is so wide that memory asks for a limit; None: any.
    """

    output: str
    ids: list[list[int]]
    types: list[list[int]] | None
    each_token: bool
    width: int
    finish: Callable[[np.ndarray], np.ndarray]
    batch_tokens: int | None = None


def check_lengths(ids: Sequence[Sequence[int]], max_tokens: int) -> None:
    """Raises DataError where a sequence is longer than the model takes, for those who do not want it cut."""
    long = [i for i, one in enumerate(ids) if len(one) > max_tokens]
    if long:
        raise DataError(f"text {long[0]}: expected at most {max_tokens} tokens, got {len(ids[long[0]])}")

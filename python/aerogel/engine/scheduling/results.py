"""What a scheduler answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aerogel.engine.generation.completion import TokenLogprob


@dataclass(frozen=True, eq=False)
class Embedded:
    """A text's embedding.

    Attributes:
        values: float32 [d] of a sentence; [t, d] of tokens; of a sparse vector the weights of its terms, [k].
        tokens: how many tokens the model has read, special ones included.
        terms: int32 [k]: the ids of a sparse vector's terms, ascending; None: it is none.
    """

    values: np.ndarray
    tokens: int
    terms: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Scored:
    """A text's or a pair's scores.

    Attributes:
        values: float32 [labels], in the order of `Model.labels`; one of a reranker.
        tokens: how many tokens the model has read, special ones included.
    """

    values: np.ndarray
    tokens: int


@dataclass(frozen=True)
class Piece:
    """What has come of a text since the last piece.

    Attributes:
        text: what is certain by now; it may be empty while a stop string or a character may be coming.
        token_ids: the tokens since the last piece, without the one that ended the text.
        logprobs: of each of them, where they were asked for.
        finish_reason: of the last piece "stop" or "length", as `Completion.finish_reason`; None: more pieces come.
        stop: of the last piece the stop string that has ended the text.
        prompt_tokens: tokens of the prompt.
        new_tokens: tokens of the text up to here.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None
    finish_reason: str | None
    stop: str | None
    prompt_tokens: int
    new_tokens: int

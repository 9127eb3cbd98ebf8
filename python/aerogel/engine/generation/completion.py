"""What is known of a text that a model has written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenLogprob:
    """A token, and how likely it was.

    Attributes:
        token_id, text: the token.
        logprob: the natural logarithm of its probability by the model alone: before penalties, temperature and the like.
        top: the likeliest tokens in its place, best first: (token id, text, logprob); as many as `logprobs` asks for.
    """

    token_id: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True)
class Completion:
    """A text that a model has written.

    Attributes:
        text: without the prompt, and without what ended it.
        token_ids: its tokens, without the one that ended it.
        finish_reason: "stop": the model, a stop string or a grammar has ended it; "length": max_new_tokens, or the model's
            last position.
        stop: the stop string that has ended it, or None.
        prompt_tokens: tokens of the prompt.
        logprobs: of each token, where they were asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    stop: str | None
    prompt_tokens: int
    logprobs: tuple[TokenLogprob, ...] | None = None

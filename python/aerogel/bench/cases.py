"""The inputs that everyone is timed with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aerogel.errors import AerogelError

#: (sequences, tokens each) of an encoder unless told otherwise; tokens of a linear layer; tokens of a language model.
ENCODER_CASES = ((1, 16), (1, 128), (16, 128))
LINEAR_TOKENS = (1, 16, 128)
PROMPT, NEW = (128,), (32,)

#: int64 [sequences, tokens] of a model's text.
Ids = Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        name: how the tables call it.
        arrays: what an engine's `run` takes.
        tokens: tokens that a call computes.
        length: positions that the longest sequence takes.
        decodes: whether the tokens are computed one after the other.
    """

    name: str
    arrays: tuple[np.ndarray, ...]
    tokens: int
    length: int = 0
    decodes: bool = False

    @property
    def one_by_one(self) -> bool:
        """Whether the weights are read once for every token."""
        return self.decodes or self.tokens == 1


def model_cases(
    kind: str,
    limit: int,
    ids: Ids,
    *,
    batches: Sequence[int] | None,
    lengths: Sequence[int] | None,
    prompts: Sequence[int] | None,
    news: Sequence[int] | None,
) -> list[Case]:
    """The cases of a model with `limit` positions; see `bench_model`.

    Raises:
        AerogelError: they are those of another kind of model, or too long.
    """
    _refuse(kind, batches=batches, lengths=lengths, prompts=prompts, news=news)
    if kind == "encoder":
        cases = [Case(f"{b}x{s}", (ids(b, s),), b * s, s) for b, s in _encoder_cases(batches, lengths, limit)]
    else:
        prompts = [min(p, limit) for p in PROMPT] if prompts is None else prompts
        news = [min(n, limit) for n in NEW] if news is None else news
        cases = [Case(f"prefill {p}", (ids(1, p)[0],), p, p) for p in prompts]
        cases += [Case(f"decode {n}", (ids(1, 1)[0], np.array([n])), n, n, decodes=True) for n in news]
    longest = max(case.length for case in cases)
    if longest > limit:
        raise AerogelError(f"the model has only {limit} positions, too few for {longest} tokens")
    return cases


def _encoder_cases(batches: Sequence[int] | None, lengths: Sequence[int] | None, limit: int) -> list[tuple[int, int]]:
    if batches is None and lengths is None:
        return list(dict.fromkeys((b, min(s, limit)) for b, s in ENCODER_CASES))
    return [(b, s) for b in batches or (1,) for s in lengths or (min(128, limit),)]


def _refuse(kind: str, **asked: Sequence[int] | None) -> None:
    flags = {"batches": "--batch", "lengths": "--seq", "prompts": "--prompt", "news": "--new"}
    wrong = ("batches", "lengths") if kind == "decoder" else ("prompts", "news")
    for name in wrong:
        if asked[name] is not None:
            what = (
                "a language model: use --prompt and --new" if kind == "decoder" else "an encoder: use --batch and --seq"
            )
            raise AerogelError(f"{flags[name]}: this is {what}")

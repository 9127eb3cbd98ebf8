"""Texts and tokens, one after another."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from aerogel._util.checks import flag, items, number, whole_number
from aerogel.engine.generation.penalties import Penalties
from aerogel.engine.generation.prompts import prompt_ids, prompt_tokens
from aerogel.engine.generation.sampling import Sampling
from aerogel.engine.generation.source import Source
from aerogel.errors import ShapeError

log = logging.getLogger("aerogel")

_SLOT = 0  # every generation has a session, and so a KV cache, of its own


def generate_text(
    source: Source,
    prompt: str | Sequence[int],
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    stream: bool | Callable[[str], None],
    repetition_penalty: float | None,
    chat: bool,
) -> str:
    """`Model.generate`."""
    source.check()
    ids = prompt_tokens(source, prompt, chat)
    show = stream if callable(stream) else _print_piece if flag("stream", stream) else None
    decoder = source.tokenizer.stream()
    pieces: list[str] = []

    def take(piece: str) -> None:
        pieces.append(piece)
        if piece and show is not None:
            show(piece)

    for token in generate_tokens(
        source, ids, max_new_tokens, temperature, top_k, top_p, seed, None, repetition_penalty
    ):
        take(decoder.push(token))
    take(decoder.flush())
    return "".join(pieces)


def generate_tokens(
    source: Source,
    token_ids: Sequence[int] | np.ndarray,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    stop: Sequence[int] | None,
    repetition_penalty: float | None,
) -> Iterator[int]:
    """`Model.generate_tokens`."""
    source.check()
    max_new_tokens = whole_number("max_new_tokens", max_new_tokens, 0)
    if seed is not None:
        seed = whole_number("seed", seed, 0)
    sampling = Sampling(temperature, top_k, top_p)
    ids = prompt_ids("token_ids", token_ids)
    if len(ids) > source.architecture.max_positions:
        raise ShapeError(f"prompt: expected at most {source.architecture.max_positions} tokens, got {len(ids)}")
    settings = source.checkpoint.generation
    if repetition_penalty is not None:
        settings = replace(
            settings, repetition_penalty=number("repetition_penalty", repetition_penalty, 0, 1e6, above=True)
        )
    ending = (
        source.ends() if stop is None else frozenset(whole_number("stop", token, 0) for token in items("stop", stop))
    )
    penalties = Penalties(settings, ids.tolist(), ending)
    return _run(source, ids, max_new_tokens, sampling, np.random.default_rng(seed), ending, penalties)


def _run(
    source: Source,
    ids: np.ndarray,
    max_new_tokens: int,
    sampling: Sampling,
    random: np.random.Generator,
    stop: frozenset[int],
    penalties: Penalties,
) -> Iterator[int]:
    room = source.architecture.max_positions - len(ids) + 1  # the last token chosen needs no position
    if max_new_tokens > room:
        log.warning("the model has positions for %d new tokens, not %d", room, max_new_tokens)
    ends = np.array([0, len(ids)], np.int64)
    with source.session() as session:
        try:
            for _ in range(min(max_new_tokens, room)):
                source.check_open()  # the model may have been closed since the last token
                logits = session.run(ids, ends, "logits", last_only=True, slots=[_SLOT])  # [1, V]
                token = sampling.choose(penalties.apply(logits[0]), random)
                if token in stop:
                    return
                yield token
                penalties.add(token)
                ids, ends = np.array([token], np.int32), np.array([0, 1], np.int64)
        finally:
            session.free_slot(_SLOT)


def _print_piece(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()

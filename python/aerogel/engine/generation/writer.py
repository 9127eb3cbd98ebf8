"""One text while it is written."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import numpy as np

from aerogel._core import Sampler, log_probabilities
from aerogel.engine.generation.bans import Bans
from aerogel.engine.generation.completion import Completion, TokenLogprob
from aerogel.engine.generation.options import Options
from aerogel.engine.generation.source import Source
from aerogel.engine.generation.stops import StopStrings
from aerogel.errors import ShapeError

if TYPE_CHECKING:
    from aerogel.engine.generation.grammar import Matcher

log = logging.getLogger("aerogel")


class Writer:
    """Chooses the tokens of one text, and knows when it ends.

    Attributes:
        ids: the tokens of the prompt and of the text, without the one that ended it.
        prompt: how many of them are the prompt's.
        left: how many more may come.
        options: the text's.
        finish: why it has ended, as `Completion.finish_reason`; None: it goes on.
    """

    def __init__(self, source: Source, prompt: list[int], options: Options, with_text: bool = True) -> None:
        most = source.architecture.max_positions
        if len(prompt) > most:
            raise ShapeError(f"prompt: expected at most {most} tokens, got {len(prompt)}")
        self._source = source
        self.options = options
        self.ids = list(prompt)
        self.prompt = len(prompt)
        room = most - len(prompt) + 1  # the last token chosen needs no position
        if options.max_new_tokens > room:
            log.warning("the model has positions for %d new tokens, not %d", room, options.max_new_tokens)
        self.left = min(options.max_new_tokens, room)
        self.finish: str | None = None if self.left else "length"
        self._ends = source.ends() if options.stop_ids is None else frozenset(options.stop_ids)
        self._bans = Bans(source.checkpoint.generation, self.ids, self._ends)
        self._sampler = _sampler(options, source)
        for token in self.ids:
            self._sampler.see(token, False)
        stops = (*options.stop, *source.checkpoint.generation.stops)
        self._stops = StopStrings(stops)
        self._decoder = source.tokenizer.stream() if with_text or stops else None
        self._pieces: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._matcher = _matcher(source, options)

    @property
    def tokens(self) -> list[int]:
        """The tokens of the text."""
        return self.ids[self.prompt :]

    @property
    def stop(self) -> str | None:
        """The stop string that has ended the text."""
        return self._stops.found

    def logprobs(self, begin: int = 0) -> tuple[TokenLogprob, ...] | None:
        """How likely each token of the text was, from number `begin` on; None: that was not asked for."""
        return None if self.options.logprobs is None else tuple(self._logprobs[begin:])

    def take(self, logits: np.ndarray) -> int | None:
        """Goes on by a token: None where it has ended the text.

        Args:
            logits: float32 [V], of this place; changed.
        """
        raw = logits.copy() if self.options.logprobs is not None else None
        allowed = None if self._matcher is None else self._matcher.allowed(len(logits))
        token = self._sampler.choose(logits, self._bans.banned(), allowed)
        if token in self._ends:
            self.finish = "stop"
            return None
        if raw is not None:
            self._logprobs.append(self._logprob(raw, token))
        self.ids.append(token)
        self._sampler.see(token, True)
        self._bans.add(token)
        self.left -= 1
        if self.left == 0:
            self.finish = "length"
        if self._matcher is not None and self._matcher.accept(token):
            self.finish = "stop"
        return token

    def read(self, token: int) -> str:
        """The text that is certain with this token; it may end the text, by a stop string."""
        if self._decoder is None:
            return ""
        piece = self._stops.push(self._decoder.push(token))
        if self._stops.found is not None:
            self.finish = "stop"
        self._pieces.append(piece)
        return piece

    def end(self) -> str:
        """The text that was held back, once it has ended."""
        if self._decoder is None:
            return ""
        piece = self._stops.push(self._decoder.flush())
        if self._stops.found is not None:
            self.finish = "stop"
        piece += self._stops.flush()
        self._pieces.append(piece)
        return piece

    def completion(self) -> Completion:
        """All of it, once it has ended."""
        assert self.finish is not None
        text = "".join(self._pieces)
        return Completion(text, tuple(self.tokens), self.finish, self.stop, self.prompt, self.logprobs())

    def _logprob(self, logits: np.ndarray, token: int) -> TokenLogprob:
        [value], top = log_probabilities(logits, [token], self.options.logprobs or 0)
        name = self._source.tokenizer.decode
        likeliest = tuple((id, name([id], False), logprob) for id, logprob in top)
        return TokenLogprob(token, name([token], False), value, likeliest)


def _sampler(options: Options, source: Source) -> Sampler:
    said = source.checkpoint.generation.repetition_penalty
    return Sampler(
        options.temperature,
        options.top_k or 0,
        1.0 if options.top_p is None else options.top_p,
        options.min_p or 0.0,
        1.0 if options.typical_p is None else options.typical_p,
        said if options.repetition_penalty is None else options.repetition_penalty,
        options.presence_penalty,
        options.frequency_penalty,
        sorted((options.logit_bias or {}).items()),
        int.from_bytes(os.urandom(8), "little") if options.seed is None else options.seed,
    )


def _matcher(source: Source, options: Options) -> Matcher | None:
    if options.json_schema is None and options.regex is None and options.grammar is None:
        return None
    from aerogel.engine.generation.grammar import matcher

    return matcher(source, options)

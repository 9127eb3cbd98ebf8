"""What clients ask for, while it is being answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from aerogel.engine.generation.parts import part_of
from aerogel.engine.generation.writer import Writer
from aerogel.engine.model import Model
from aerogel.engine.scheduling.results import Piece
from aerogel.engine.work import Work

#: Tokens of a block of the KV cache.
BLOCK = 64
#: A part of a request has about so many tokens: short texts go in several at once, prompts in blocks of the KV cache.
PIECE = BLOCK


class Lane(NamedTuple):
    """Where requests are run together: one output of one model."""

    name: str
    output: str


@dataclass(frozen=True)
class Terms:
    """What a request is besides its content.

    Attributes:
        name: of the model.
        task: as `Finished.task`.
        priority: as `Scheduler.embed`.
        deadline: when its answer is of no use any more; None: never.
    """

    name: str
    task: str
    priority: int
    deadline: float | None


class Request:
    """What both kinds share.

    Attributes:
        terms, model, loop: as they were given.
        number: given when it is let in.
        arrived: when that was, by the scheduler's clock.
        steps_over: steps that were over then.
        steps_waited: as `Finished`.
        lane, priority, served: as `Turn`.
        texts, tokens: how many it has.
        kv_bytes: of keys and values that it may come to need.
        waiting: tokens of it that have not been run.
        cancelled: set by the client, in any thread: it is not waited for any more.
        ended: its client has been told all, or is not to be told.
        begun: when the first step of it began.
        first_token: when its first new token was there.
        new_tokens: how many it has by now.
    """

    texts, tokens, kv_bytes, new_tokens = 1, 0, 0, 0

    def __init__(self, terms: Terms, model: Model, output: str) -> None:
        self.terms, self.model, self.lane = terms, model, Lane(terms.name, output)
        self.loop = asyncio.get_running_loop()
        self.number = -1
        self.arrived = 0.0
        self.steps_over = 0
        self.priority = terms.priority
        self.served: int | None = None
        self.waiting = 0
        self.cancelled = self.ended = False
        self.begun: float | None = None
        self.steps_waited = 0
        self.first_token: float | None = None

    def sequences(self) -> list[list[int]]:
        """Its token ids."""
        raise NotImplementedError

    def piece(self) -> int:
        """As `Turn`."""
        raise NotImplementedError

    def take(self) -> None:
        """As `Turn`."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """Tells the client, in its event loop."""
        raise NotImplementedError


class EncoderRequest(Request):
    """Texts or pairs that are run once each.

    Args:
        terms: as `Request`.
        model: what runs it.
        work: what is run.
        answer: makes the client's answer of a text's finished rows, [1, w] or [t, w], and its number of tokens.
    """

    def __init__(self, terms: Terms, model: Model, work: Work, answer: Callable[[np.ndarray, int], Any]) -> None:
        super().__init__(terms, model, work.output)
        self.work, self._answer = work, answer
        self.future: asyncio.Future[list[Any]] = self.loop.create_future()
        self.texts, self.tokens = len(work.ids), sum(map(len, work.ids))
        self.waiting = self.tokens
        self._answers: list[Any] = [None] * self.texts
        self._order = [i for i, ids in enumerate(work.ids) if ids]
        self._run = self._taken = 0  # places in the order: what was run, and what is in the step
        for i, ids in enumerate(work.ids):
            if not ids:
                self._answers[i] = answer(
                    work.finish(np.zeros((0 if work.each_token else 1, work.width), np.float32)), 0
                )

    def sequences(self) -> list[list[int]]:
        """Token ids of all of them."""
        return self.work.ids

    def piece(self) -> int:
        """Tokens of the next sequences: so many as are about a piece, at least one."""
        return sum(len(self.work.ids[i]) for i in self._next())

    def take(self) -> None:
        """They go into the step."""
        self._taken += len(self._next())

    def _next(self) -> list[int]:
        begin, end, tokens = self._taken, self._taken, 0
        while end < len(self._order):
            more = len(self.work.ids[self._order[end]])
            if end > begin and tokens + more > PIECE:
                break
            tokens, end = tokens + more, end + 1
        return self._order[begin:end]

    def taken(self) -> list[int]:
        """Which sequences are in the step."""
        return self._order[self._run : self._taken]

    def put(self, rows: list[np.ndarray]) -> None:
        """What has come out for them: rows of each, [1, w] or [t, w]."""
        work = self.work
        finished = (
            [work.finish(one) for one in rows]
            if work.each_token
            else np.split(work.finish(np.concatenate(rows)), len(rows))
        )
        for i, own in zip(self.taken(), finished, strict=True):
            self._answers[i] = self._answer(own, len(work.ids[i]))
            self.waiting -= len(work.ids[i])
        self._run = self._taken

    @property
    def done(self) -> bool:
        """Whether all have been run."""
        return self._run == len(self._order)

    def succeed(self) -> None:
        """Gives the client its answers, in its event loop."""
        if not self.future.done():
            self.future.set_result(self._answers)

    def fail(self, error: BaseException) -> None:
        """As `Request`."""
        if not self.future.done():
            self.future.set_exception(error)


class TextRequest(Request):
    """A text that is written.

    Args:
        terms: as `Request`.
        model: what writes it.
        writer: what chooses its tokens.
    """

    def __init__(self, terms: Terms, model: Model, writer: Writer) -> None:
        super().__init__(terms, model, "logits")
        self.writer, self._in_parts = writer, model.as_source().in_parts
        blocks = -(-(writer.prompt + writer.left) // BLOCK)
        self.kv_bytes = blocks * BLOCK * model.kv_cache_bytes
        self.pieces: asyncio.Queue[Piece | BaseException] = asyncio.Queue()
        self.tokens = self.waiting = writer.prompt
        self.left = 0  # tokens that can be run now
        self.share = 0  # how many of them are in the step
        self._told = 0  # tokens that the client has
        self._text: list[str] = []  # what it has not

    def sequences(self) -> list[list[int]]:
        """Token ids of the prompt."""
        return [self.writer.ids]

    def piece(self) -> int:
        """Tokens of the next part of the prompt."""
        left = self.left - self.share
        return part_of(left, PIECE) if self._in_parts else left

    def take(self) -> None:
        """It goes into the step."""
        self.share += self.piece()

    def new_piece(self, text: str, ended: bool) -> Piece | None:
        """What the client has not had yet, where there is anything to read, or the end."""
        self._text.append(text)
        if not text and not ended:
            return None
        text, self._text = "".join(self._text), []
        writer = self.writer
        tokens = tuple(writer.ids[writer.prompt + self._told :])
        logprobs = writer.logprobs(self._told)
        self._told += len(tokens)
        finish = writer.finish if ended else None
        return Piece(text, tokens, logprobs, finish, writer.stop if ended else None, writer.prompt, self._told)

    def fail(self, error: BaseException) -> None:
        """As `Request`."""
        self.pieces.put_nowait(error)

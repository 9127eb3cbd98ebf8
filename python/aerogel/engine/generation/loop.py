"""Many texts at once, in one ragged batch: each has a slot of the KV cache, and the next text begins where one has ended."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aerogel.engine.generation.sharing import Loan, loan_of, take_loans
from aerogel.engine.generation.source import Source
from aerogel.engine.generation.speculation import Drafts, drafts_for
from aerogel.engine.generation.writer import Writer

if TYPE_CHECKING:
    from aerogel._core import Session

#: Texts that are written at the same time.
MOST_TEXTS = 64
#: Tokens of prompts that are read in one pass: enough to fill the kernels, few enough to stop soon.
CHUNK = 512


class Event(NamedTuple):
    """Something new of a text: a token, or None at its end; and the text that is certain with it."""

    number: int
    token: int | None
    piece: str


class _Place:
    """A text in a slot of the KV cache: which has its first `held` tokens."""

    def __init__(
        self, index: int, slot: int, writer: Writer, drafts: Drafts | None, held: int, stack: ExitStack
    ) -> None:
        self.index, self.slot, self.writer, self.drafts = index, slot, writer, drafts
        self.held = held
        self.stack = stack
        self.feed: list[int] = []
        self.guessed: list[int] = []
        self.loan: Loan | None = None  # the begin of its prompt, which another text is reading

    @property
    def ids(self) -> list[int]:
        """The tokens of the prompt and of the text."""
        return self.writer.ids

    def plan(self, room: int) -> int:
        """Decides what is run next, of at most `room` tokens of a prompt; returns how many of them."""
        left = len(self.writer.ids) - self.held
        count = min(left, room) if left > 1 else left
        self.feed = self.writer.ids[self.held : self.held + count]
        self.guessed = []
        if count == left and self.drafts is not None and self.writer.tokens:
            self.guessed = self.drafts.guess(self.writer.ids, self.writer.left - 1)
        return count if left > 1 else 0

    @property
    def reads_on(self) -> bool:
        """Whether the prompt goes on behind what is run next."""
        return self.held + len(self.feed) < len(self.writer.ids)


def write(
    source: Source,
    writers: Sequence[Writer],
    cancelled: threading.Event | None = None,
    session: Session | None = None,
    held: int = 0,
) -> Generator[Event, None, None]:
    """Writes the texts, in the order in which they come.

    Args:
        source: the model.
        writers: the texts.
        cancelled: once it is set, nothing more is written.
        session: whose slot 0 is kept, for one text; unless given one that is the caller's for this time.
        held: tokens of the prompt that this slot has already, less than all.

    A generator: what is not asked for is not computed, and closing it gives the KV cache back.
    """
    with ExitStack() as stack:
        if session is None:
            session = stack.enter_context(source.session())
            for slot in range(min(len(writers), MOST_TEXTS)):
                stack.callback(session.free_slot, slot)
        waiting = list(enumerate(writers))[::-1]
        free = list(range(MOST_TEXTS))[::-1]
        active: list[_Place] = []
        while waiting or active:
            while waiting and free:
                index, writer = waiting.pop()
                if writer.finish is not None:  # nothing is to be written
                    yield Event(index, None, writer.end())
                    continue
                slot = free.pop()
                own = stack.enter_context(ExitStack())
                place = _Place(index, slot, writer, own.enter_context(drafts_for(source, writer)), held, own)
                place.loan = loan_of(writer.ids, active) if source.in_parts and not held else None
                active.append(place)
            if not active or (cancelled is not None and cancelled.is_set()):
                return
            source.check_open()  # the model may have been closed since the last token
            take_loans(session, active)
            yield from _step(source, session, active)
            take_loans(session, active)
            for place in [place for place in active if place.writer.finish is not None]:
                active.remove(place)
                place.stack.close()
                free.append(place.slot)
                if len(writers) > 1:
                    session.free_slot(place.slot)
                yield Event(place.index, None, place.writer.end())


def _step(source: Source, session: Session, active: list[_Place]) -> Generator[Event, None, None]:
    """One pass over all texts: two where some have guesses, as only of those every row of logits is wanted."""
    room = CHUNK if source.in_parts else source.architecture.max_positions
    ready = []
    for place in active:
        if place.loan is not None:
            continue
        if room > 0 or len(place.writer.ids) - place.held == 1:
            room -= place.plan(room)
            ready.append(place)
    for guessing in (False, True):
        places = [place for place in ready if bool(place.guessed) is guessing]
        if not places:
            continue
        runs = [place.feed + place.guessed for place in places]
        ends = np.array([0, *accumulate(map(len, runs))], np.int64)
        ids = np.array([token for run in runs for token in run], np.int32)
        slots = [place.slot for place in places]
        logits = session.run(ids, ends, "logits", last_only=not guessing, slots=slots)
        for number, place in enumerate(places):
            rows = logits[ends[number] : ends[number + 1]] if guessing else logits[number : number + 1]
            yield from _go_on(session, place, rows[len(rows) - len(place.guessed) - 1 :])


def _go_on(session: Session, place: _Place, rows: np.ndarray) -> Generator[Event, None, None]:
    """Takes tokens as long as the guesses are what is chosen."""
    if place.reads_on:
        place.held += len(place.feed)
        return
    writer = place.writer
    before = len(writer.ids)
    try:
        for row, guess in zip(rows, [*place.guessed, None], strict=True):
            token = writer.take(row)
            if token is None:
                break
            yield Event(place.index, token, writer.read(token))
            if writer.finish is not None or token != guess:
                break
    finally:  # a caller may have had enough
        # The last token was chosen only; those before it were guessed, and so run.
        place.held = max(before, len(writer.ids) - 1)
        session.truncate_slot(place.slot, place.held)

"""Texts that are read and written together: in each step all of them are one ragged batch."""

from __future__ import annotations

from collections.abc import Generator, Mapping
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


class Event(NamedTuple):
    """Something new of a text: a token, or None at its end; and the text that is certain with it. `error`: nothing more
    comes of this text, for that reason; the others go on."""

    number: int
    token: int | None
    piece: str
    error: Exception | None = None


class _Place:
    """A text in a slot of the KV cache: which has its first `held` tokens."""

    def __init__(
        self, number: int, slot: int, writer: Writer, drafts: Drafts | None, held: int, stack: ExitStack
    ) -> None:
        self.number, self.slot, self.writer, self.drafts = number, slot, writer, drafts
        self.held = held
        self.stack = stack
        self.feed: list[int] = []
        self.guessed: list[int] = []
        self.loan: Loan | None = None  # the begin of its prompt, which another text is reading
        self.error: Exception | None = None

    @property
    def ids(self) -> list[int]:
        """The tokens of the prompt and of the text."""
        return self.writer.ids

    @property
    def left(self) -> int:
        """Tokens that have to be run before the next one can be chosen."""
        return len(self.writer.ids) - self.held

    def plan(self, count: int) -> None:
        """The next `count` tokens are run; and guesses behind them, if they are the last."""
        last = count == self.left
        self.feed = self.writer.ids[self.held : self.held + count]
        self.guessed = []
        if last and self.drafts is not None and self.writer.tokens:
            self.guessed = self.drafts.guess(self.writer.ids, self.writer.left - 1)

    @property
    def reads_on(self) -> bool:
        """Whether the prompt goes on behind what is run next."""
        return self.held + len(self.feed) < len(self.writer.ids)


class Batch:
    """Texts in slots of one session. They begin and end between steps, each by itself.

    Args:
        source: the model.
        session: of it; the slots are the batch's, and given back by `drop` and at a text's end.
        keep: leave the slot of a text as it is at its end: for those who go on with it.
    """

    def __init__(self, source: Source, session: Session, keep: bool = False) -> None:
        self._source, self._session, self._keep = source, session, keep
        self._free = list(range(MOST_TEXTS))[::-1]
        self._places: list[_Place] = []

    def __len__(self) -> int:
        """How many texts are in it."""
        return len(self._places)

    @property
    def full(self) -> bool:
        """Whether no more texts can begin now."""
        return not self._free

    def add(self, number: int, writer: Writer, held: int = 0) -> None:
        """Begins a text, which is called `number`: in slot 0 if it is the only one. `held`: tokens of the prompt that the
        slot has already, less than all."""
        own = ExitStack()
        drafts = own.enter_context(drafts_for(self._source, writer))
        place = _Place(number, self._free.pop(), writer, drafts, held, own)
        place.loan = loan_of(writer.ids, self._places) if self._source.in_parts and not held else None
        self._places.append(place)

    def needs(self) -> dict[int, int]:
        """Of each text, in the order in which they began, how many tokens have to be run before its next one can be chosen:
        1 of those that are being written. Texts are missing that wait for what they have in common with another."""
        take_loans(self._session, self._places)
        for place in self._places:
            if place.loan is None:
                self._begin_anew(place)
        return {place.number: place.left for place in self._places if place.loan is None}

    def step(self, shares: Mapping[int, int]) -> Generator[Event, None, None]:
        """One pass: over so many tokens of each text, of those that `needs` says; two passes where some have guesses, as
        only of those every row of logits is wanted. It is over when the last event has been taken."""
        ready = [place for place in self._places if shares.get(place.number)]
        for place in ready:
            place.plan(min(shares[place.number], place.left))
        for guessing in (False, True):
            places = [place for place in ready if bool(place.guessed) is guessing]
            if not places:
                continue
            runs = [place.feed + place.guessed for place in places]
            ends = np.array([0, *accumulate(map(len, runs))], np.int64)
            ids = np.array([token for run in runs for token in run], np.int32)
            slots = [place.slot for place in places]
            logits = self._session.run(ids, ends, "logits", last_only=not guessing, slots=slots)
            for number, place in enumerate(places):
                rows = logits[ends[number] : ends[number + 1]] if guessing else logits[number : number + 1]
                yield from self._go_on(place, rows[len(rows) - len(place.guessed) - 1 :])
        yield from self._end()

    def drop(self, number: int) -> None:
        """Ends a text that nobody wants any more; nothing where it has ended."""
        for place in [place for place in self._places if place.number == number]:
            self._leave(place)

    def clear(self) -> None:
        """Ends what guesses ahead, of all texts: for those who give the session back with its slots."""
        for place in self._places:
            place.stack.close()
        self._places = []

    def _go_on(self, place: _Place, rows: np.ndarray) -> Generator[Event, None, None]:
        """Takes tokens as long as the guesses are what is chosen."""
        if place.reads_on:
            place.held += len(place.feed)
            return
        writer = place.writer
        before = len(writer.ids)
        try:
            for row, guess in zip(rows, [*place.guessed, None], strict=True):
                try:
                    token = writer.take(row)
                    piece = "" if token is None else writer.read(token)
                except Exception as error:  # such as a grammar that cannot go on: the others do
                    place.error = error
                    break
                if token is None:
                    break
                yield Event(place.number, token, piece)
                if writer.finish is not None or token != guess:
                    break
        finally:  # a caller may have had enough
            # The last token was chosen only; those before it were guessed, and so run.
            place.held = max(before, len(writer.ids) - 1)
            self._session.truncate_slot(place.slot, place.held)

    def _end(self) -> Generator[Event, None, None]:
        """Lets those go that have ended; what they have read is lent before."""
        take_loans(self._session, self._places)
        for place in [place for place in self._places if place.error is not None or place.writer.finish is not None]:
            self._leave(place)
            yield Event(place.number, None, "" if place.error else place.writer.end(), place.error)

    def _leave(self, place: _Place) -> None:
        take_loans(self._session, self._places)
        self._places.remove(place)
        for other in self._places:
            if other.loan is not None and other.loan.lender is place:
                other.loan = None  # it has to read all of its prompt itself
        place.stack.close()
        self._free.append(place.slot)
        if not self._keep:
            self._session.free_slot(place.slot)

    def _begin_anew(self, place: _Place) -> None:
        """Forgets keys that were turned as those of a shorter text are, as Transformers does."""
        most = self._source.turns_over
        if most is not None and 0 < place.held <= most < len(place.writer.ids):
            self._session.truncate_slot(place.slot, 0)
            place.held = 0

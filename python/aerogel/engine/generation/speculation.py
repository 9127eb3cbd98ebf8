"""Guesses of the next tokens, which one pass of the model checks: those that it would have chosen itself are kept.

A guess is compared with what is chosen in its place, with all penalties and the same random number, so the text is the one
that comes without guesses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np

from aerogel.engine.generation.source import Source
from aerogel.errors import AerogelError

if TYPE_CHECKING:
    from aerogel._core import Session
    from aerogel.engine.generation.writer import Writer

#: Tokens that a draft model guesses at once.
DRAFTED = 5
#: The longest end of a text that is looked for in it.
_LONGEST = 3


class Drafts(Protocol):
    """Guesses for one text."""

    def guess(self, ids: list[int], most: int) -> list[int]:
        """Up to `most` tokens that may come behind `ids`, which go on from call to call."""
        ...


class Lookup:
    """What stood behind the same tokens before, in the prompt or the text (Saxena: "Prompt lookup decoding", 2023)."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._ends: dict[tuple[int, ...], int] = {}  # tokens -> the place behind them, where they came last
        self._seen = 0

    def guess(self, ids: list[int], most: int) -> list[int]:
        for end in range(self._seen + 1, len(ids)):
            for size in range(1, min(_LONGEST, end) + 1):
                self._ends[tuple(ids[end - size : end])] = end
        self._seen = max(self._seen, len(ids) - 1)
        for size in range(min(_LONGEST, len(ids)), 0, -1):
            place = self._ends.get(tuple(ids[len(ids) - size :]))
            if place is not None:
                guessed: list[int] = []
                for at in range(
                    place, place + min(self._count, most)
                ):  # at the end it goes on with what it has guessed
                    guessed.append(ids[at] if at < len(ids) else guessed[at - len(ids)])
                return guessed
        return []


class DraftModel:
    """What a smaller model would write, greedily."""

    def __init__(self, source: Source, session: Session) -> None:
        self._source = source
        self._session = session
        self._held: list[int] = []

    def guess(self, ids: list[int], most: int) -> list[int]:
        room = self._source.architecture.max_positions - len(ids)
        guessed: list[int] = []
        same = next(
            (i for i, (a, b) in enumerate(zip(self._held, ids, strict=False)) if a != b), min(len(self._held), len(ids))
        )
        same = min(same, len(ids) - 1)
        self._session.truncate_slot(0, same)
        feed = ids[same:]
        for _ in range(min(DRAFTED, most, room)):
            run = np.array(feed, np.int32)
            row = self._session.run(run, np.array([0, len(run)], np.int64), "logits", last_only=True, slots=[0])[0]
            guessed.append(int(row.argmax()))
            feed = guessed[-1:]
        self._held = (ids + guessed)[: self._session.slot_length(0)]
        return guessed


@contextmanager
def drafts_for(source: Source, writer: Writer) -> Iterator[Drafts | None]:
    """What guesses for a text until the block ends; None where nothing does."""
    options = writer.options
    if options.draft is not None:
        draft = options.draft.as_source() if hasattr(options.draft, "as_source") else None
        if draft is None:
            raise AerogelError(f"draft: expected a model, got {options.draft!r:.80}")
        draft.check()
        check_vocabularies(source, draft)
        with draft.session() as session:
            try:
                yield DraftModel(draft, session) if source.in_parts and draft.in_parts else None
            finally:
                session.free_slot(0)
    else:
        yield Lookup(options.lookup) if options.lookup and source.in_parts else None


def check_vocabularies(source: Source, draft: Source) -> None:
    """Raises AerogelError unless both models mean the same by their tokens."""
    if source.tokenizer.vocabulary() != draft.tokenizer.vocabulary():
        raise AerogelError(
            f"draft: {draft.checkpoint.path}: expected the tokens of {source.checkpoint.path}, got other ones"
        )

"""Many texts from their first to their last: the next begins where one has ended."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from aerogel.engine.generation.batch import MOST_TEXTS, Batch, Event
from aerogel.engine.generation.parts import FEWEST, part_of
from aerogel.engine.generation.source import Source
from aerogel.engine.generation.writer import Writer

if TYPE_CHECKING:
    from aerogel._core import Session

#: Tokens of prompts that are read in one pass: enough to fill the kernels, few enough to stop soon.
CHUNK = 512


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
        batch = Batch(source, session, keep=len(writers) == 1)
        stack.callback(batch.clear)
        while waiting or len(batch):
            while waiting and not batch.full:
                index, writer = waiting.pop()
                if writer.finish is not None:  # nothing is to be written
                    yield Event(index, None, writer.end())
                    continue
                batch.add(index, writer, held)
            if not len(batch) or (cancelled is not None and cancelled.is_set()):
                return
            source.check_open()  # the model may have been closed since the last token
            with closing(batch.step(first_come(batch.needs(), source))) as events:
                for event in events:
                    if event.error is not None:
                        raise event.error
                    yield event


def first_come(needs: Mapping[int, int], source: Source) -> dict[int, int]:
    """How many tokens of each text are run next: the one of those that are written, and of prompts as many as fill a pass,
    in the order in which they came."""
    whole = room = CHUNK if source.in_parts else source.architecture.max_positions
    shares = {}
    for number, left in needs.items():
        if left == 1:
            shares[number] = 1
        elif room >= min(left, FEWEST, whole) and (source.in_parts or left <= room):
            shares[number] = part_of(left, room)
            room -= shares[number]
    return shares

"""A conversation that goes on: what both sides have said is not computed again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

from aerogel._util.checks import text as check_text
from aerogel.engine.generation.chat import chat_tokens, with_end
from aerogel.engine.generation.completion import Completion
from aerogel.engine.generation.loop import write
from aerogel.engine.generation.options import options_for
from aerogel.engine.generation.source import Source
from aerogel.engine.generation.writer import Writer
from aerogel.errors import AerogelError, DataError

if TYPE_CHECKING:
    from aerogel._core import Session


class Conversation:
    """Messages, and the model's keys and values of them. Made by `Model.conversation`; for one thread at a time.

    `close`, or the end of a `with` block, gives the keys and values back; so does `reset`.

    Attributes:
        messages: what was said, as `Model.chat` takes it; may be changed between two answers.
        computed: tokens of the last prompt that had to be run; the others were known.
    """

    def __init__(
        self,
        source: Callable[[], Source],
        new_session: Callable[[], Session],
        system: str | None,
        chat: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        source().check()
        options = with_end(source(), chat.get("template"), options)
        options_for(1, options)
        self._source, self._new_session = source, new_session
        self._session: Session | None = None
        self._ids: list[int] = []  # in the KV cache
        self._system = None if system is None else check_text("system", system, DataError)
        self._chat, self._options = dict(chat), dict(options)
        self._running = False
        self.computed = 0
        self.last: Completion | None = None
        self.messages: list[Mapping[str, Any]] = []
        self.reset()

    def reset(self) -> None:
        """Begins anew: with the system's message, if there is one."""
        self.close()
        self.messages = [] if self._system is None else [{"role": "system", "content": self._system}]

    def close(self) -> None:
        """Gives the keys and values back. The conversation can go on: then they are computed again."""
        self._session, self._ids = None, []

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def say(self, message: str | Mapping[str, Any]) -> str:
        """The model's answer to what the user says, or to a message such as a tool's. Both are added to `messages`."""
        return "".join(self.stream(message))

    def stream(self, message: str | Mapping[str, Any]) -> Generator[str, None, None]:
        """`say`, piece by piece. An answer that is not read to its end is added as far as it was."""
        said = (
            message
            if isinstance(message, Mapping)
            else {
                "role": "user",
                "content": check_text("message", message, DataError),
            }
        )
        if self._running:
            raise AerogelError("the conversation is in the middle of an answer: read it, or close it, first")
        source = self._source()
        ids = chat_tokens(source, [*self.messages, said], **self._chat)
        [options] = options_for(1, self._options)
        writer = Writer(source, ids, options)
        self.messages.append(said)
        return self._pieces(source, writer)

    def _pieces(self, source: Source, writer: Writer) -> Generator[str, None, None]:
        self._running = True
        answer: list[str] = []
        session = self._session = self._session or self._new_session()
        try:
            held = self._reuse(source, session, writer.ids)
            self.computed = len(writer.ids) - held
            with contextlib.closing(write(source, [writer], session=session, held=held)) as events:
                for event in events:
                    if event.piece:
                        answer.append(event.piece)
                        yield event.piece
            self.last = writer.completion()
        finally:
            self._running = False
            if self._session is session:
                self._ids = writer.ids[: session.slot_length(0)]
            self.messages.append({"role": "assistant", "content": "".join(answer)})

    def _reuse(self, source: Source, session: Session, ids: list[int]) -> int:
        """Keeps what the KV cache and the prompt have in common; how many tokens that are."""
        most = min(len(self._ids), len(ids) - 1) if source.in_parts else 0
        held = next((i for i in range(most) if self._ids[i] != ids[i]), most)
        session.truncate_slot(0, held)
        return held

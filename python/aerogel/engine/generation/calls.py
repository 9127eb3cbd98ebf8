"""What `Model` offers of generation: one text or many, at once or piece by piece."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from aerogel._util.checks import flag, items, shown
from aerogel.engine.generation.chat import chat_tokens, with_end
from aerogel.engine.generation.completion import Completion
from aerogel.engine.generation.loop import write
from aerogel.engine.generation.options import Options, options_for
from aerogel.engine.generation.prompts import prompt_ids, prompt_tokens
from aerogel.engine.generation.source import Source
from aerogel.engine.generation.writer import Writer
from aerogel.errors import DataError

#: A text, or token ids.
Prompt = str | Sequence[int] | np.ndarray


def is_one(prompts: Any) -> bool:
    """Whether it is one prompt, not a list of them."""
    if isinstance(prompts, str):
        return True
    if isinstance(prompts, np.ndarray):
        return prompts.ndim == 1
    return isinstance(prompts, (list, tuple)) and bool(prompts) and isinstance(prompts[0], (int, np.integer))


def writers_for(source: Source, prompts: Any, chat: bool | str, options: Mapping[str, Any]) -> list[Writer]:
    """What writes the texts behind the prompts.

    Raises:
        AerogelError: a prompt or an option is none; nothing has been computed then.
    """
    source.check()
    found = [prompts] if is_one(prompts) else items("text", prompts, expected="a text, token ids, or a list of them")
    wanted = options_for(len(found), with_end(source, chat, options))
    return [Writer(source, prompt_tokens(source, one, chat), own) for one, own in zip(found, wanted, strict=True)]


def writer_for(
    source: Source, prompt: Any, chat: bool | str, said: Mapping[str, Any], options: Mapping[str, Any]
) -> Writer:
    """What writes the text behind one prompt: a text, token ids, or messages, to which `said` belongs: what else
    `Model.chat` takes.

    Raises:
        AerogelError: a prompt or an option is none; nothing has been computed then.
    """
    if isinstance(prompt, (list, tuple)) and prompt and isinstance(prompt[0], Mapping):
        source.check()
        ids = chat_tokens(source, prompt, **said)
        [own] = options_for(1, {"max_new_tokens": 512, **with_end(source, said.get("template"), options)})
        return Writer(source, ids, own)
    given = [name for name, value in said.items() if value not in (None, False)]
    if given:
        raise DataError(f"{given[0]}: goes with messages, got another prompt")
    if not is_one(prompt):
        raise DataError(f"prompt: expected a text, token ids or messages, got {shown(prompt)}")
    return writers_for(source, prompt, chat, options)[0]


def complete(
    source: Source,
    prompts: Any,
    chat: bool | str,
    options: Mapping[str, Any],
    show: bool | Callable[[str], None] = False,
    cancelled: threading.Event | None = None,
) -> Completion | list[Completion]:
    """`Model.complete`; `show` as `Model.generate`'s `stream`."""
    take = show if callable(show) else _print_piece if flag("stream", show) else None
    if take is not None and not is_one(prompts):
        raise DataError("stream: expected one text, got a list")
    writers = writers_for(source, prompts, chat, options)
    with contextlib.closing(write(source, writers, cancelled)) as events:
        for event in events:
            if event.piece and take is not None:
                take(event.piece)
    if cancelled is not None and cancelled.is_set():
        from asyncio import CancelledError  # slow to import, and large

        raise CancelledError
    found = [writer.completion() for writer in writers]
    return found[0] if is_one(prompts) else found


def stream(
    source: Source, prompt: Any, chat: bool | str, options: Mapping[str, Any], cancelled: threading.Event | None = None
) -> Iterator[str]:
    """`Model.stream`. Arguments are checked at once, the text is written when it is asked for."""
    if not is_one(prompt):
        raise DataError("text: expected one text to stream, got a list")
    writers = writers_for(source, prompt, chat, options)
    return _pieces(source, writers, cancelled)


def _pieces(source: Source, writers: list[Writer], cancelled: threading.Event | None) -> Iterator[str]:
    with contextlib.closing(write(source, writers, cancelled)) as events:
        for event in events:
            if event.piece:
                yield event.piece


def tokens(
    source: Source, token_ids: Sequence[int] | np.ndarray, stop: Sequence[int] | None, options: Mapping[str, Any]
) -> Iterator[int]:
    """`Model.generate_tokens`."""
    source.check()
    ids = [int(token) for token in prompt_ids("token_ids", token_ids)]
    writer = Writer(source, ids, Options(**options, stop_ids=stop), with_text=False)
    return _tokens(source, writer)


def _tokens(source: Source, writer: Writer) -> Iterator[int]:
    with contextlib.closing(write(source, [writer])) as events:
        for event in events:
            if event.token is not None:
                yield event.token


async def acomplete(
    source: Source, prompts: Any, chat: bool | str, options: Mapping[str, Any]
) -> Completion | list[Completion]:
    """`complete` in a thread. Cancelling the task ends it before the next token."""
    import asyncio

    cancelled = threading.Event()
    try:
        return await asyncio.to_thread(complete, source, prompts, chat, options, False, cancelled)
    finally:
        cancelled.set()


async def astream(source: Source, prompt: Any, chat: bool | str, options: Mapping[str, Any]) -> AsyncIterator[str]:
    """`stream` in a thread. Closing the iterator, or cancelling the task, ends it before the next token."""
    import asyncio

    loop, cancelled = asyncio.get_running_loop(), threading.Event()
    pieces: asyncio.Queue[str | BaseException | None] = asyncio.Queue()

    def put(item: str | BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended meanwhile
            loop.call_soon_threadsafe(pieces.put_nowait, item)

    def run() -> None:
        try:
            for piece in stream(source, prompt, chat, options, cancelled):
                put(piece)
            put(None)
        except BaseException as error:  # raised again where the pieces are taken
            put(error)

    thread = threading.Thread(target=run, name="aerogel-stream", daemon=True)
    thread.start()
    try:
        while True:
            item = await pieces.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield item
    finally:
        cancelled.set()


def _print_piece(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()

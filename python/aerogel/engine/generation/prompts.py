"""What a generation begins with."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

import numpy as np

from aerogel._util.checks import flag, shown
from aerogel._util.checks import text as check_text
from aerogel.engine.generation.chat import chat_tokens
from aerogel.engine.generation.source import Source
from aerogel.engine.token_ids import integers
from aerogel.errors import AerogelError, DataError, ShapeError

log = logging.getLogger("aerogel")


def prompt_tokens(source: Source, prompt: str | Sequence[int] | np.ndarray, chat: bool | str) -> list[int]:
    """The token ids of a text, or the ids themselves; with `chat` those of a conversation in which the user says the text,
    by the model's template, or the one that it is or names.

    Raises:
        DataError: the text is empty, and there is no token to begin one with; or token ids are to be said.
    """
    template = chat if isinstance(chat, str) else None
    chat = True if template is not None else flag("chat", chat)
    if not isinstance(prompt, str):
        if chat:
            raise DataError("chat: expected a text for the user to say, got token ids")
        if not hasattr(prompt, "__len__"):
            raise DataError(f"prompt: expected a text or token ids, got {shown(prompt)}")
        return [int(token) for token in prompt_ids("prompt", prompt)]
    prompt = check_text("text", prompt, DataError)
    if chat:
        return chat_tokens(source, [{"role": "user", "content": prompt}], template=template)
    _say_plain(source)
    tokenizer = source.tokenizer
    ids = tokenizer.encode([prompt])[0]
    if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_id:
        del ids[0]  # the text has its own already, as those that a chat template has made
    if not ids and tokenizer.bos_id is not None:
        ids = [tokenizer.bos_id]
    if not ids:
        raise DataError("the prompt is empty and the model has no token to begin a text with")
    return ids


def prompt_ids(name: str, values: Sequence[int] | np.ndarray) -> np.ndarray:
    """Token ids as int32 [T], T > 0. The engine checks that they are in the vocabulary."""
    found = integers(name, values)
    if not len(found):
        raise ShapeError(f"{name}: expected at least one token, got none")
    return found.astype(np.int32)


def _say_plain(source: Source) -> None:
    """Says once that a model which knows conversations is given a text without one."""
    if "plain" in source.said:
        return
    source.said.add("plain")
    with contextlib.suppress(AerogelError):  # a template that is broken matters to those who want it
        if not source.checkpoint.chat_templates.sources:
            return
        log.warning(
            "%s has a chat template: generate goes on with the text as it is; chat(), or generate(..., chat=True), asks",
            source.checkpoint.path,
        )

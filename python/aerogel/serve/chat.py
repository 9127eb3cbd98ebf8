"""OpenAI's chat completions."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aerogel.engine.generation.completion import TokenLogprob
from aerogel.engine.scheduling import Piece
from aerogel.serve.events import DONE, Events, begun, closing, event
from aerogel.serve.failures import Failure, rendered
from aerogel.serve.messages import for_template
from aerogel.serve.sampling import Usage, choices_of, options_of, written
from aerogel.serve.service import Service
from aerogel.serve.shapes import ChatRequest
from aerogel.serve.tools import BARE, Held, check_tools, form_of, parsed, schema_of

#: Likeliest tokens that OpenAI lists at most.
_MOST_TOP = 20


@dataclass
class _Answer:
    """One choice while it is written."""

    held: Held
    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: str | None = None


@dataclass(frozen=True)
class _Asked:
    """A request, checked.

    Attributes:
        head: what all parts of the answer begin with.
        model: its name.
        choices: the arguments of the scheduler for each.
        form: in which functions are called; None: there are none.
        forced: the answer is a call.
        logprobs: whether they are told.
        usage: whether a stream ends with it.
    """

    head: dict[str, Any]
    model: str
    choices: Sequence[Any]
    form: str | None
    forced: bool
    logprobs: bool
    usage: bool


async def chat(service: Service, said: ChatRequest) -> Any:
    """An answer in a conversation, at once or as a stream of events."""
    asked = await _asked(service, said)
    if not said.stream:
        return await _at_once(service, asked)
    parts = await begun(written(service, asked.model, asked.choices))
    return Events(_events(asked, parts), lambda e: event(rendered(service.explainer.failure(e), "openai")[1]))


async def _asked(service: Service, said: ChatRequest) -> _Asked:
    entry = service.choose(said.model, "generate")
    model = await service.model(entry)
    tools = said.tools if said.tools and said.tool_choice != "none" else None
    template = model.as_source().checkpoint.chat_templates.choose(None, tools is not None)
    messages = for_template(said.messages, template)
    most = said.max_completion_tokens if said.max_completion_tokens is not None else said.max_tokens
    options = options_of(service, said, service.options.max_new_tokens if most is None else most)
    form, forced = None, False
    if tools is not None:
        check_tools(tools)
        form = form_of(template)
        schema = schema_of(tools, said.tool_choice)
        if schema is not None:
            options["json_schema"], form, forced = schema, BARE, True
    top = said.top_logprobs or 0
    if not 0 <= top <= _MOST_TOP:
        raise Failure("value", f"top_logprobs: expected 0 to {_MOST_TOP}, got {top}", "top_logprobs")
    options.update(tools=tools, template_arguments=said.chat_template_kwargs, logprobs=top if said.logprobs else None)
    service.counters.add("te_request_count", "method", "single")
    head = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion.chunk" if said.stream else "chat.completion",
        "created": int(time.time()),
        "model": entry.name,
        "system_fingerprint": None,
    }
    choices = choices_of(service, said, [messages], options)
    return _Asked(head, entry.name, choices, form, forced, bool(said.logprobs), said.with_usage)


async def _at_once(service: Service, asked: _Asked) -> dict[str, Any]:
    answers = [_Answer(Held(None)) for _ in asked.choices]
    usage = Usage(len(answers), len(answers))
    async with closing(written(service, asked.model, asked.choices)) as parts:
        async for number, piece in parts:
            usage.see(number, piece)
            answers[number].texts.append(piece.text)
            answers[number].logprobs += piece.logprobs or ()
            answers[number].finish = piece.finish_reason
    return {
        **asked.head,
        "choices": [_choice(asked, number, answer) for number, answer in enumerate(answers)],
        "usage": usage.value(),
    }


def _choice(asked: _Asked, number: int, answer: _Answer) -> dict[str, Any]:
    text = "".join(answer.texts)
    calls: list[dict[str, Any]] = []
    if asked.form is not None:
        text, calls = parsed(text, asked.form)
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
    if calls:
        message["tool_calls"] = calls
    return {
        "index": number,
        "message": message,
        "logprobs": _logprobs(answer.logprobs) if asked.logprobs else None,
        "finish_reason": "tool_calls" if calls else answer.finish,
    }


async def _events(asked: _Asked, parts: AsyncIterator[tuple[int, Piece]]) -> AsyncIterator[bytes]:
    """The events of an answer: the role, the pieces, why it has ended, how many tokens there were."""
    answers = [_Answer(Held(asked.form, asked.forced)) for _ in asked.choices]
    usage = Usage(len(answers), len(answers))

    def part(number: int, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None) -> bytes:
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return event({**asked.head, "choices": [choice], **({"usage": None} if asked.usage else {})})

    async with closing(parts):
        for number in range(len(answers)):
            yield part(number, {"role": "assistant", "content": ""})
        async for number, piece in parts:
            usage.see(number, piece)
            answer = answers[number]
            certain = answer.held.push(piece.text)
            # A token may have no text of its own yet, and still a probability.
            logprobs = _logprobs(piece.logprobs) if asked.logprobs and piece.logprobs else None
            if certain or logprobs:
                yield part(number, {"content": certain}, None, logprobs)
            if piece.finish_reason is not None:
                for delta, finish in _ends(asked, answer.held.rest(), piece.finish_reason):
                    yield part(number, delta, finish)
        if asked.usage:
            yield event({**asked.head, "choices": [], "usage": usage.value()})
        yield DONE


def _ends(asked: _Asked, rest: str, finish: str) -> list[tuple[dict[str, Any], str | None]]:
    """The last parts of a stream: what was held back, as text or as calls, and why it has ended."""
    text, calls = parsed(rest, asked.form) if asked.form is not None and rest else (rest, [])
    found: list[tuple[dict[str, Any], str | None]] = []
    if text:
        found.append(({"content": text}, None))
    if calls:
        found.append(({"tool_calls": [{"index": i, **call} for i, call in enumerate(calls)]}, None))
    return [*found, ({}, "tool_calls" if calls else finish)]


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    return {
        "content": [
            {**_token(one.text, one.logprob), "top_logprobs": [_token(text, value) for _, text, value in one.top]}
            for one in tokens
        ],
        "refusal": None,
    }


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}

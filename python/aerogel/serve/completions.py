"""OpenAI's completions: a prompt that is continued as it is."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aerogel.engine.generation.completion import TokenLogprob
from aerogel.engine.scheduling import Piece
from aerogel.serve.events import DONE, Events, begun, closing, event
from aerogel.serve.failures import Failure, rendered
from aerogel.serve.inputs import check_ids, rows
from aerogel.serve.sampling import Usage, choices_of, options_of, written
from aerogel.serve.service import Service
from aerogel.serve.shapes import CompletionRequest

#: Tokens of a text unless a request says: OpenAI's number.
_TOKENS = 16
_MOST_LOGPROBS = 5


async def complete(service: Service, said: CompletionRequest) -> Any:
    """Texts that go on from prompts, at once or as a stream of events."""
    entry = service.choose(said.model, "generate")
    _, prompts = rows(said.prompt, "prompt")
    service.check_count(len(prompts), "prompt")
    if said.suffix:
        raise Failure("value", "suffix: not supported", "suffix")
    if said.best_of is not None and said.best_of > (said.n or 1):
        raise Failure("value", "best_of: expected no more than n", "best_of")
    if said.logprobs is not None and not 0 <= said.logprobs <= _MOST_LOGPROBS:
        raise Failure("value", f"logprobs: expected 0 to {_MOST_LOGPROBS}, got {said.logprobs}", "logprobs")
    if said.echo and said.logprobs is not None:
        raise Failure("value", "echo: not supported with logprobs", "echo")
    model = await service.model(entry)
    for prompt in prompts:
        if not isinstance(prompt, str):
            check_ids(model, prompt, "prompt")
    options = options_of(service, said, _TOKENS if said.max_tokens is None else said.max_tokens)
    choices = choices_of(service, said, prompts, {**options, "logprobs": said.logprobs})
    shown = [p if isinstance(p, str) else model.tokenizer.decode(p) for p in prompts] if said.echo else []
    per_prompt = said.n or 1
    echoes = [shown[i // per_prompt] if shown else "" for i in range(len(choices))]
    head = {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": entry.name,
        "system_fingerprint": None,
    }
    usage = Usage(len(choices), per_prompt)
    if said.stream:
        parts = await begun(written(service, entry.name, choices))
        events = _events(head, parts, echoes, usage, said)
        return Events(events, lambda e: event(rendered(service.explainer.failure(e), "openai")[1]))
    texts, finish = [[echo] for echo in echoes], [""] * len(choices)
    logprobs: list[list[TokenLogprob]] = [[] for _ in choices]
    async with closing(written(service, entry.name, choices)) as all_parts:
        async for number, piece in all_parts:
            usage.see(number, piece)
            texts[number].append(piece.text)
            logprobs[number] += piece.logprobs or ()
            finish[number] = piece.finish_reason or ""
    found = [
        _choice(i, "".join(texts[i]), finish[i], logprobs[i] if said.logprobs is not None else None, 0)
        for i in range(len(choices))
    ]
    return {**head, "choices": found, "usage": usage.value()}


async def _events(
    head: dict[str, Any],
    parts: AsyncIterator[tuple[int, Piece]],
    echoes: Sequence[str],
    usage: Usage,
    said: CompletionRequest,
) -> AsyncIterator[bytes]:
    lengths = [0] * len(echoes)
    extra = {"usage": None} if said.with_usage else {}
    async with closing(parts):
        for number, echo in enumerate(echoes):
            if echo:
                yield event({**head, "choices": [_choice(number, echo, None, None, 0)], **extra})
        async for number, piece in parts:
            usage.see(number, piece)
            if not piece.text and piece.finish_reason is None and not piece.logprobs:
                continue
            known = piece.logprobs or () if said.logprobs is not None else None
            choice = _choice(number, piece.text, piece.finish_reason, known, lengths[number])
            lengths[number] += len(piece.text)
            yield event({**head, "choices": [choice], **extra})
        if said.with_usage:
            yield event({**head, "choices": [], "usage": usage.value()})
        yield DONE


def _choice(
    number: int, text: str, finish: str | None, logprobs: Sequence[TokenLogprob] | None, offset: int
) -> dict[str, Any]:
    found = None
    if logprobs is not None:
        offsets = []
        for one in logprobs:
            offsets.append(offset)
            offset += len(one.text)
        found = {
            "tokens": [one.text for one in logprobs],
            "token_logprobs": [one.logprob for one in logprobs],
            "top_logprobs": [{text: value for _, text, value in one.top} for one in logprobs],
            "text_offset": offsets,
        }
    return {"index": number, "text": text, "logprobs": found, "finish_reason": finish}

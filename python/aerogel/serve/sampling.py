"""How texts are written: what chats and completions have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aerogel.engine.scheduling import Piece
from aerogel.serve.events import closing
from aerogel.serve.failures import Failure
from aerogel.serve.service import Service
from aerogel.serve.shapes import ResponseFormat, Sampling

#: Pieces of one request that wait for a client that reads slowly.
_WAITING = 64


def options_of(service: Service, said: Sampling, most: int) -> dict[str, Any]:
    """A request as options of `Model.generate`; temperature 1 unless given, as OpenAI's.

    Args:
        service: with the limits.
        said: the request.
        most: the most new tokens.
    """
    if most < 0:
        raise Failure("value", f"max_tokens: expected 0 or more, got {most}", "max_tokens")
    bias = None
    if said.logit_bias:
        if not all(token.isdecimal() and len(token) < 12 for token in said.logit_bias):
            raise Failure("value", "logit_bias: expected token ids and numbers", "logit_bias")
        bias = {int(token): value for token, value in said.logit_bias.items()}
    top_k = said.top_k if said.top_k is not None and said.top_k > 0 else None  # 0 and -1: all, as others have it
    return {
        "max_new_tokens": min(most, service.options.max_new_tokens),
        "temperature": 1.0 if said.temperature is None else said.temperature,
        "top_k": top_k,
        "top_p": said.top_p,
        "min_p": said.min_p,
        "stop": said.stop or (),
        "presence_penalty": said.presence_penalty or 0.0,
        "frequency_penalty": said.frequency_penalty or 0.0,
        "repetition_penalty": said.repetition_penalty,
        "logit_bias": bias,
        "json_schema": _schema(said.response_format),
        "timeout": service.options.timeout,
    }


def _schema(form: ResponseFormat | None) -> Any:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {"type": "object"}
    if form.type == "json_schema" and form.json_schema is not None:
        return form.json_schema.schema
    said = f"expected text, json_object, or json_schema with a json_schema, got {form.type[:80]!r}"
    raise Failure("value", f"response_format: {said}", "response_format")


def choices_of(service: Service, said: Sampling, prompts: Sequence[Any], options: Mapping[str, Any]) -> list[Any]:
    """The arguments of the scheduler for each text: `n` for every prompt, each with a seed of its own."""
    count = 1 if said.n is None else said.n
    if not 1 <= count <= service.options.max_choices:
        raise Failure("value", f"n: expected 1 to {service.options.max_choices}, got {count}", "n")
    if len(prompts) * count > service.options.max_client_batch:
        raise Failure("value", f"expected at most {service.options.max_client_batch} texts", "n")
    seeds = [None if said.seed is None else (said.seed + i) % 2**64 for i in range(len(prompts) * count)]
    asked = [(prompt, seeds[i * count + j]) for i, prompt in enumerate(prompts) for j in range(count)]
    return [{**options, "prompt": prompt, "seed": seed} for prompt, seed in asked]


async def written(service: Service, model: str, asked: Sequence[Mapping[str, Any]]) -> AsyncIterator[tuple[int, Piece]]:
    """The pieces of several texts as they come, each with its text's number. Closing it ends all of them."""
    queue: asyncio.Queue[tuple[int, Piece | Exception | None]] = asyncio.Queue(_WAITING)

    async def write(number: int, arguments: dict[str, Any]) -> None:
        try:
            parts = service.scheduler.generate(model, arguments.pop("prompt"), **arguments)
            async with closing(parts):
                async for part in parts:
                    await queue.put((number, part))
            await queue.put((number, None))
        except Exception as error:
            await queue.put((number, error))

    tasks = [asyncio.create_task(write(i, dict(arguments))) for i, arguments in enumerate(asked)]
    try:
        left = len(tasks)
        while left:
            number, item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                left -= 1
            else:
                yield number, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Usage:
    """How many tokens a request's prompts and texts have."""

    def __init__(self, choices: int, per_prompt: int) -> None:
        self._prompt, self._new = [0] * choices, [0] * choices
        self._per_prompt = per_prompt

    def see(self, number: int, piece: Piece) -> None:
        """A piece has come."""
        self._prompt[number], self._new[number] = piece.prompt_tokens, piece.new_tokens

    def value(self) -> dict[str, int]:
        """As OpenAI gives it: a prompt counts once, however many texts it gets."""
        prompt, new = sum(self._prompt[:: self._per_prompt]), sum(self._new)
        return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}

"""The scheduler: all requests of a process, for any of its models, over one team of threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import numpy as np

from aerogel._util.checks import one_of
from aerogel.engine.model import Model
from aerogel.engine.scheduling.metrics import Metrics
from aerogel.engine.scheduling.options import SchedulerOptions
from aerogel.engine.scheduling.results import Embedded, Piece, Scored
from aerogel.errors import OverloadedError


class Scheduler:
    """Serves models to many tasks of asyncio at once.

    Args:
        models: by name: loaded ones, or functions that load them, called when they are first asked for.
        options: how it works.
    """

    def __init__(
        self, models: Mapping[str, Model | Callable[[], Model]], options: SchedulerOptions | None = None
    ) -> None:
        self._models = dict(models)
        self._options = options or SchedulerOptions()
        self._draining = False
        self._running = 0
        self.metrics = Metrics()

    async def model(self, name: str) -> Model:
        """A model, loaded if it was not."""
        one_of("model", name, self._models)
        found = self._models[name]
        if not isinstance(found, Model):
            found = self._models[name] = await asyncio.to_thread(found)
        return found

    @property
    def models(self) -> dict[str, Model | None]:
        """The models by name; None: not loaded now."""
        return {name: one if isinstance(one, Model) else None for name, one in self._models.items()}

    async def embed(
        self,
        model: str,
        texts: Sequence[str],
        *,
        kind: str = "sentence",
        prompt: str | None = None,
        prompt_name: str | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        truncate: bool = True,
        priority: int = 0,
        timeout: float | None = None,
    ) -> list[Embedded]:
        """Embeds texts.

        Args:
            model: its name.
            texts: any number.
            kind: "sentence": `Model.encode`; "tokens": `Model.encode_tokens`, or the hidden states where the model makes no
                vectors of tokens; "sparse": `Model.encode_sparse`.
            prompt, prompt_name, normalize: as `Model.encode`; `normalize` of sentences only.
            dimensions: as `truncate_dim` of `Model.encode`; of a sparse vector the most terms.
            truncate: cut longer texts than the model's `max_tokens`. False: they are refused with a DataError.
            priority: requests of a higher one are run before all of lower ones.
            timeout: seconds after which the answer is not worth computing any more.

        Raises:
            OverloadedError: there is too much to do already, or the scheduler is closing.
            DeadlineError: `timeout` has passed.
            AerogelError: as the model's methods.
        """
        loaded = await self.model(model)
        self._accept()
        try:
            found = await asyncio.to_thread(
                loaded.encode,
                list(texts),
                prompt=prompt,
                prompt_name=prompt_name,
                normalize=normalize,
                truncate_dim=dimensions,
            )
            counts = [len(ids) for ids in loaded.tokenizer.encode(list(texts))]
            return [Embedded(row, count) for row, count in zip(found, counts, strict=True)]
        finally:
            self._running -= 1

    async def score(
        self,
        model: str,
        pairs_or_texts: Sequence[Any],
        *,
        raw_scores: bool = False,
        prompt: str | None = None,
        truncate: bool = True,
        priority: int = 0,
        timeout: float | None = None,
    ) -> list[Scored]:
        """Scores pairs of texts, or texts.

        Args:
            model: its name.
            pairs_or_texts: [(query, document), ...], or texts to classify.
            raw_scores: the model's logits. Otherwise pairs as `Model.predict` gives them; classes as Transformers' pipeline
                does: softmax, or sigmoid where there is one label or several may hold.
            prompt: as `Model.predict`.
            truncate, priority, timeout: as `embed`.

        Raises:
            OverloadedError, DeadlineError, AerogelError: as `embed`.
        """
        loaded = await self.model(model)
        self._accept()
        try:
            rows = list(pairs_or_texts)
            first, second = (rows, None) if isinstance(rows[0], str) else ([a for a, _ in rows], [b for _, b in rows])
            found = await asyncio.to_thread(loaded.scores, first, second)
            return [Scored(row, 0) for row in found]
        finally:
            self._running -= 1

    async def generate(
        self,
        model: str,
        prompt: str | Sequence[int] | np.ndarray | Sequence[Mapping[str, Any]],
        *,
        chat: bool | str = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        priority: int = 0,
        timeout: float | None = None,
        **options: Any,
    ) -> AsyncIterator[Piece]:
        """Writes a text, piece by piece; the last piece has a `finish_reason`. Closing the iterator, or cancelling the task,
        ends it within one step.

        Args:
            model: its name.
            prompt: a text, as it is; token ids; or messages, as `Model.chat`.
            chat: as `Model.generate`.
            tools, documents, template, template_arguments, continue_final_message: as `Model.chat`, of messages.
            priority, timeout: as `embed`.
            **options: of `Model.generate` (max_new_tokens, temperature, seed, stop, json_schema ...) and `logprobs`.

        Raises (at the first piece, but for DeadlineError):
            OverloadedError, DeadlineError, AerogelError: as `embed`.
        """
        loaded = await self.model(model)
        self._accept()
        try:
            found = await asyncio.to_thread(loaded.complete, prompt, chat=chat, **options)
            yield Piece(
                found.text,
                found.token_ids,
                found.logprobs,
                found.finish_reason,
                found.stop,
                found.prompt_tokens,
                len(found.token_ids),
            )
        finally:
            self._running -= 1

    async def drain(self, timeout: float | None = None) -> bool:
        """Refuses what comes from now on, and waits until all that was accepted has been answered: whether it has been,
        within `timeout` seconds."""
        self._draining = True
        while self._running:
            await asyncio.sleep(0.01)
        return True

    def close(self) -> None:
        """Stops. Requests that are not answered fail with an AerogelError; `drain` first to answer them."""
        self._draining = True

    def step(self) -> bool:
        """Runs one step; whether there was anything to do. For those who made it with `thread=False`."""
        return False

    def _accept(self) -> None:
        if self._draining:
            raise OverloadedError("the scheduler is closing and takes no more requests", 1.0)
        self._running += 1

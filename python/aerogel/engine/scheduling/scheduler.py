"""The scheduler: all requests of a process, for any of its models, over one team of threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from aerogel._util.checks import flag, items, number, one_of, whole_number
from aerogel._util.checks import texts as check_texts
from aerogel.engine.generation.calls import writer_for
from aerogel.engine.model import Model
from aerogel.engine.rerank import is_pairs, split_pairs
from aerogel.engine.scheduling.admission import Admission
from aerogel.engine.scheduling.metrics import Metrics
from aerogel.engine.scheduling.options import SchedulerOptions
from aerogel.engine.scheduling.pool import Pool
from aerogel.engine.scheduling.requests import EncoderRequest, Terms, TextRequest
from aerogel.engine.scheduling.results import Embedded, Piece, Scored
from aerogel.engine.scheduling.worker import Worker
from aerogel.engine.sparse_vectors import SparseVectors
from aerogel.engine.work import Work
from aerogel.errors import DataError

T = TypeVar("T")

#: What `Scheduler.embed` gives.
KINDS = ("sentence", "tokens", "sparse")
#: Seconds between two looks whether a drain is over.
_DRAIN = 0.005
#: Texts of more characters, together, are made tokens of in another thread: the event loop shall not wait for that.
_INLINE = 4096


class Scheduler:
    """Serves models to many tasks of asyncio at once.

    Args:
        models: by name: loaded ones, or functions that load them, called when they are first asked for.
        options: how it works.
    """

    def __init__(
        self, models: Mapping[str, Model | Callable[[], Model]], options: SchedulerOptions | None = None
    ) -> None:
        self._options = options or SchedulerOptions()
        self._pool = Pool(models, self._options.max_model_bytes)
        self.metrics = Metrics()
        self._admission = Admission(self._options, self.metrics)
        self._worker = Worker(self._options, self._admission, self.metrics, self._pool.give)

    @property
    def models(self) -> dict[str, Model | None]:
        """The models by name; None: not loaded now."""
        return self._pool.loaded()

    async def model(self, name: str) -> Model:
        """A model, loaded if it was not. With `max_model_bytes` it may be closed again while nobody uses it."""
        found = await self._pool.take(name)
        self._pool.give(name)
        return found

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
        texts = check_texts("texts", texts)
        one_of("kind", kind, KINDS)
        cut = flag("truncate", truncate)
        most = None if dimensions is None else whole_number("dimensions", dimensions, 1)
        terms = self._terms(model, kind, priority, timeout)
        self._admission.look()
        found = await self._pool.take(model)
        with self._pool.use(model):

            def work() -> Work:
                if kind == "sentence":
                    return found.embedding_work(texts, prompt, prompt_name, normalize, most, cut)
                if kind == "tokens":
                    return found.token_work(texts, prompt, prompt_name, cut, hidden=True)
                return found.sparse_work(texts, prompt, prompt_name, cut)

            def answer(rows: np.ndarray, tokens: int) -> Embedded:
                if kind == "sparse":
                    ids, weights = SparseVectors.of(rows, most).row(0)
                    return Embedded(weights, tokens, ids)
                return Embedded((rows if kind == "tokens" else rows[0]).copy(), tokens)

            return await self._run(EncoderRequest(terms, found, await _off_loop(work, texts), answer))

    async def score(
        self,
        model: str,
        pairs_or_texts: Sequence[Any],
        *,
        raw_scores: bool = False,
        prompt: str | None = None,
        prompt_name: str | None = None,
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
            prompt, prompt_name: as `Model.predict`.
            truncate, priority, timeout: as `embed`.

        Raises:
            OverloadedError, DeadlineError, AerogelError: as `embed`.
        """
        raw, cut = flag("raw_scores", raw_scores), flag("truncate", truncate)
        terms = self._terms(model, "score", priority, timeout)
        rows = items("pairs_or_texts", pairs_or_texts)
        self._admission.look()
        found = await self._pool.take(model)
        with self._pool.use(model):
            before = found.prompt_text(prompt, prompt_name)

            def work() -> Work:
                if is_pairs(rows):
                    _, first, second = split_pairs(rows)
                    return found.score_work(first, second, before, None if raw else found.score_activation(), cut)
                return found.score_work(rows, None, before, None if raw else found.class_activation(), cut)

            request = EncoderRequest(terms, found, await _off_loop(work, rows), lambda row, n: Scored(row[0].copy(), n))
            return await self._run(request)

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
        terms = self._terms(model, "generate", priority, timeout)
        self._admission.look()
        found = await self._pool.take(model)
        with self._pool.use(model):
            said = {
                "tools": tools,
                "documents": documents,
                "template": template,
                "template_arguments": template_arguments,
                "continue_final_message": continue_final_message,
            }
            # A template, and a grammar, may take long.
            writer = await asyncio.to_thread(writer_for, found.as_source(), prompt, chat, said, options)
            request = TextRequest(terms, found, writer)
            if writer.finish is not None:  # nothing is to be written
                last = request.new_piece(writer.end(), True)
                assert last is not None
                yield last
                return
            self._submit(request)
            try:
                while True:
                    piece = await request.pieces.get()
                    if isinstance(piece, BaseException):
                        raise piece
                    yield piece
                    if piece.finish_reason is not None:
                        return
            finally:
                self._leave(request)

    async def drain(self, timeout: float | None = None) -> bool:
        """Refuses what comes from now on, and waits until all that was accepted has been answered: whether it has been,
        within `timeout` seconds."""
        self._admission.closing = True
        end = None if timeout is None else self._options.clock() + number("timeout", timeout, 0)
        while self.metrics.queued:
            if end is not None and self._options.clock() >= end:
                return False
            await asyncio.sleep(_DRAIN)
        return True

    def close(self) -> None:
        """Stops behind the step that is running. Requests that are not answered fail with an AerogelError: `drain` first to
        answer them. The models stay open. Closing twice is fine."""
        self._admission.closing = True
        self._worker.close()

    def step(self) -> bool:
        """Runs one step; whether there was anything to run. For those who made it with `thread=False`, in one thread."""
        return self._worker.step()

    def _terms(self, name: str, task: str, priority: int, timeout: float | None) -> Terms:
        end = None if timeout is None else self._options.clock() + number("timeout", timeout, 0)
        return Terms(name, task, whole_number("priority", priority, -(2**31), 2**31), end)

    def _submit(self, request: EncoderRequest | TextRequest) -> None:
        largest = max((max(ids) for ids in request.sequences() if ids), default=0)
        if largest >= request.model.vocab_size:  # in a batch it would be everybody's error
            raise DataError(f"token ids: expected all below {request.model.vocab_size}, got {largest}")
        self._admission.enter(request)
        self._pool.keep(request.terms.name)
        self._worker.submit(request)

    async def _run(self, request: EncoderRequest) -> list[Any]:
        self._submit(request)
        try:
            return await request.future
        finally:
            self._leave(request)

    def _leave(self, request: EncoderRequest | TextRequest) -> None:
        """The client waits no longer: it has its answer, or has gone."""
        request.cancelled = True
        if not request.ended:
            self._worker.wake()


async def _off_loop(work: Callable[[], T], texts: Sequence[Any]) -> T:
    """Calls it, in another thread where it takes long."""
    return work() if sum(map(_characters, texts)) <= _INLINE else await asyncio.to_thread(work)


def _characters(one: Any) -> int:
    """Of a text or a pair; 1 more, as an empty text is work too."""
    parts = one if isinstance(one, (list, tuple)) else [one]
    return 1 + sum(len(part) for part in parts if isinstance(part, str))

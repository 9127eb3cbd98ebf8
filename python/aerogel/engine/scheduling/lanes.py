"""Where requests are run: those for one output of an encoder, and those of one language model, in a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

from aerogel.engine.generation.batch import Batch, Event
from aerogel.engine.model import Model
from aerogel.engine.scheduling.requests import EncoderRequest, TextRequest
from aerogel.errors import AerogelError

#: Told of a request that cannot go on, and why.
Failed = Callable[[EncoderRequest | TextRequest, Exception], None]


def run_encoders(requests: Sequence[EncoderRequest], failed: Failed) -> None:
    """Runs what the requests have in the step, all for one output, in one batch. Should that fail, each alone: the others
    have nothing to do with what is wrong with one."""
    try:
        _run_together(requests)
    except Exception as error:
        if len(requests) == 1:
            failed(requests[0], error)
            return
        for request in requests:
            if request.taken():
                run_encoders([request], failed)


def _run_together(requests: Sequence[EncoderRequest]) -> None:
    work = requests[0].work
    ids = [one.work.ids[i] for one in requests for i in one.taken()]
    types = None
    if any(one.work.types is not None for one in requests):
        types = [
            [0] * len(one.work.ids[i]) if one.work.types is None else one.work.types[i]
            for one in requests
            for i in one.taken()
        ]
    rows = requests[0].model.run_sequences(work.output, ids, types, work.each_token, work.batch_tokens)
    begin = 0
    for one in requests:
        end = begin + len(one.taken())
        one.put(rows[begin:end])
        begin = end


class TextLane:
    """The texts that a model writes: some in its batch, the others waiting for a place there."""

    def __init__(self, model: Model) -> None:
        self._source = model.as_source()
        self._stack = ExitStack()
        self._batch: Batch | None = None
        self._running: dict[int, TextRequest] = {}
        self._waiting: list[TextRequest] = []

    def __len__(self) -> int:
        """How many there are."""
        return len(self._running) + len(self._waiting)

    def add(self, request: TextRequest) -> None:
        """Lets a text in."""
        self._waiting.append(request)

    def begin(self, failed: Failed) -> None:
        """Gives places to those that wait, and says of all that have one how many tokens they can run."""
        self._source.check_open()
        self._waiting.sort(key=lambda one: (-one.priority, one.number))
        if self._batch is None:
            self._batch = Batch(self._source, self._stack.enter_context(self._source.session()))
        while self._waiting and not self._batch.full:
            request = self._waiting.pop(0)
            try:
                self._batch.add(request.number, request.writer)
            except AerogelError as error:  # such as a draft model of another vocabulary
                failed(request, error)
                continue
            self._running[request.number] = request
        needs = self._batch.needs()
        for number, request in self._running.items():
            request.left, request.share = needs.get(number, 0), 0

    def run(self, took: Callable[[TextRequest, Event], None]) -> None:
        """One step of those that have a share; `took` is told what comes of it."""
        shares = {number: one.share for number, one in self._running.items() if one.share}
        assert self._batch is not None
        with closing(self._batch.step(shares)) as events:
            for event in events:
                request = self._running[event.number]
                if event.token is None:
                    del self._running[event.number]
                took(request, event)
        for number, request in self._running.items():
            if number in shares:
                request.waiting = min(request.waiting, request.left - request.share)

    def drop(self, request: TextRequest) -> None:
        """Ends one that nobody wants any more."""
        if request in self._waiting:
            self._waiting.remove(request)
        if self._running.pop(request.number, None) is not None and self._batch is not None:
            self._batch.drop(request.number)

    def rest(self) -> None:
        """Gives the session back while there are no texts."""
        if not len(self):
            self._batch = None
            self._stack.close()

    def requests(self) -> list[TextRequest]:
        """All of them."""
        return [*self._running.values(), *self._waiting]

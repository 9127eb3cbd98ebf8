"""The steps of a scheduler: what is there is dealt into batches, run, and told to the clients."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from aerogel.engine.generation.batch import Event
from aerogel.engine.scheduling.admission import Admission
from aerogel.engine.scheduling.lanes import TextLane, run_encoders
from aerogel.engine.scheduling.metrics import Finished, Metrics, Step
from aerogel.engine.scheduling.options import SchedulerOptions
from aerogel.engine.scheduling.pace import Pace, Room
from aerogel.engine.scheduling.requests import EncoderRequest, Lane, Request, TextRequest
from aerogel.engine.scheduling.turns import deal
from aerogel.errors import AerogelError, DeadlineError

log = logging.getLogger("aerogel")

#: Seconds after which a worker looks again that has requests and nothing to run: it should not happen.
_LOOK_AGAIN = 0.05


class Worker:
    """Owns the requests once they are let in. `submit` and `wake` are for any thread, the rest is for one at a time.

    Args:
        options: the scheduler's.
        admission: told what has been run, and who has left.
        metrics: counted in.
        left: called with the name of a request's model when it has ended.
    """

    def __init__(
        self, options: SchedulerOptions, admission: Admission, metrics: Metrics, left: Callable[[str], None]
    ) -> None:
        self._options, self._admission, self._metrics, self._left = options, admission, metrics, left
        self._inbox: deque[Request] = deque()
        self._encoders: dict[int, EncoderRequest] = {}
        self._lanes: dict[str, TextLane] = {}
        self._paces: dict[Hashable, Pace] = {}
        self._outbox: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
        self._wake = threading.Event()
        self._stop = False
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()
        self.steps = 0  # that have begun
        self.running = False  # one of them

    def submit(self, request: Request) -> None:
        """Hands over a request that was let in. Raises AerogelError where `close` was faster."""
        request.arrived = self._options.clock()
        request.steps_over = self.steps - self.running
        with self._start:
            closed = self._stop
            if not closed:
                self._inbox.append(request)
        if closed:
            self._admission.leave(request)
            self._left(request.terms.name)
            raise AerogelError("the scheduler is closed")
        self.wake()

    def wake(self) -> None:
        """There is something to look at."""
        self._wake.set()
        if self._options.thread and self._thread is None:
            with self._start:
                if self._thread is None and not self._stop:
                    self._thread = threading.Thread(target=self._work, name="aerogel-scheduler", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """Stops after the step that is running, and fails what is left."""
        with self._start:
            self._stop = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._take_inbox()
        for request in self._all():
            self._end(request, "failed", AerogelError("the scheduler was closed before the answer was there"))
        self._rest()
        self._flush()

    def _work(self) -> None:
        while not self._stop:
            self._wake.clear()
            if not self.step() and not self._stop:
                self._wake.wait(_LOOK_AGAIN if self._all() else None)

    def step(self) -> bool:
        """One step; whether anything was run."""
        self._take_inbox()
        self._drop()
        ran = False
        if self._all():
            start = self._options.clock()
            room = Room(self._options.max_batch_tokens, self._options.step_seconds, self._paces)
            self._deal(room, start)
            if room.used:
                self.steps, self.running = self.steps + 1, True
                self._run(start)
                self.running = False
                ran = True
        self._rest()
        self._flush()
        return ran

    def _take_inbox(self) -> None:
        while self._inbox:
            request = self._inbox.popleft()
            if isinstance(request, TextRequest):
                name = request.terms.name
                if name not in self._lanes:
                    self._lanes[name] = TextLane(request.model)
                self._lanes[name].add(request)
            elif isinstance(request, EncoderRequest):
                self._encoders[request.number] = request
                if request.done:  # there was nothing to run
                    self._end(request, "done")

    def _all(self) -> list[Request]:
        return [*self._encoders.values(), *(one for lane in self._lanes.values() for one in lane.requests())]

    def _drop(self) -> None:
        """Lets those go whom nobody waits for, and those that are too late."""
        now = self._options.clock()
        for request in self._all():
            if request.cancelled:
                self._end(request, "cancelled")
            elif request.terms.deadline is not None and now >= request.terms.deadline:
                self._end(request, "late", DeadlineError("timeout: it has passed before the answer was there"))

    def _deal(self, room: Room, start: float) -> None:
        """Decides what is run: the next token of all that are being written, and what else there is room for."""
        prompts: list[TextRequest] = []
        for lane in list(self._lanes.values()):
            try:
                lane.begin(self._failed)
            except Exception as error:
                self._fail_lane(lane, error)
                continue
            for text in lane.requests():
                if text.left == 1 and text.new_tokens:
                    text.take()
                    room.use(text.lane, 1)
                elif text.left:
                    prompts.append(text)
        deal([*self._encoders.values(), *prompts], room, self.steps + 1)
        for request in [*self._encoders.values(), *prompts]:
            if request.served == self.steps + 1 and request.begun is None:
                request.begun = start
                request.steps_waited = self.steps - request.steps_over

    def _run(self, start: float) -> None:
        """Runs what is in the step, lane by lane."""
        tokens: dict[str, int] = {}
        sequences: dict[str, int] = {}
        everyone = self._all()
        waiting = sum(not _has_part(one) for one in everyone)
        before = sum(one.waiting for one in everyone)
        lanes: dict[Lane, list[EncoderRequest]] = {}
        for request in self._encoders.values():
            if request.taken():
                lanes.setdefault(request.lane, []).append(request)
        for lane, requests in lanes.items():
            counts = [len(one.work.ids[i]) for one in requests for i in one.taken()]
            _add(tokens, lane.name, sum(counts))
            _add(sequences, lane.name, len(counts))
            self._encode(lane, requests, sum(counts))
        for name, texts in self._lanes.items():
            parts = [one.share for one in texts.requests() if one.share]
            if parts:
                _add(tokens, name, sum(parts))
                _add(sequences, name, len(parts))
                self._write(Lane(name, "logits"), texts, sum(parts))
        seconds = self._options.clock() - start
        self._admission.ran(before - sum(one.waiting for one in everyone), seconds)
        self._count(Step(seconds, tokens, sequences, waiting))

    def _encode(self, lane: Lane, requests: list[EncoderRequest], count: int) -> None:
        self._timed(lane, count, lambda: run_encoders(requests, self._failed))
        for request in requests:
            if request.done and request.number in self._encoders:  # it has not failed
                self._end(request, "done")

    def _write(self, lane: Lane, texts: TextLane, count: int) -> None:
        try:
            self._timed(lane, count, lambda: texts.run(self._took))
        except Exception as error:
            self._fail_lane(texts, error)

    def _took(self, request: TextRequest, event: Event) -> None:
        """A token of a text, or its end."""
        if event.error is not None:
            self._end(request, "failed", event.error)
            return
        request.waiting = 0
        if event.token is not None:
            if request.first_token is None:
                request.first_token = self._options.clock()
            request.new_tokens += 1
            _add(self._metrics.new_tokens, request.terms.name, 1)
        piece = request.new_piece(event.piece, event.token is None)
        if piece is not None:
            self._post(request, lambda: request.pieces.put_nowait(piece))
        if event.token is None:
            self._end(request, "done")

    def _timed(self, lane: Lane, count: int, run: Callable[[], None]) -> None:
        begin = self._options.clock()
        run()
        self._paces.setdefault(lane, Pace()).add(count, self._options.clock() - begin)

    def _count(self, step: Step) -> None:
        metrics = self._metrics
        metrics.steps += 1
        metrics.step_seconds += step.seconds
        for name, count in step.tokens.items():
            _add(metrics.tokens, name, count)
        if self._options.on_step is not None:
            self._tell(self._options.on_step, step)

    def _failed(self, request: Request, error: Exception) -> None:
        self._end(request, "failed", error)

    def _fail_lane(self, lane: TextLane, error: Exception) -> None:
        for request in lane.requests():
            self._end(request, "failed", error)

    def _end(self, request: Request, outcome: str, error: BaseException | None = None) -> None:
        """Lets a request go, and tells its client."""
        request.ended = True
        if isinstance(request, TextRequest):
            self._lanes[request.terms.name].drop(request)
        else:
            self._encoders.pop(request.number, None)
        if error is not None:
            self._post(request, lambda: request.fail(error))
        elif isinstance(request, EncoderRequest) and outcome == "done":
            self._post(request, request.succeed)
        now = self._options.clock()
        self._admission.leave(request)
        self._left(request.terms.name)
        queue = (now if request.begun is None else request.begun) - request.arrived
        _add(self._metrics.ended, outcome, 1)
        self._metrics.queue_seconds += queue
        if self._options.on_finished is not None:
            first = request.first_token
            self._tell(
                self._options.on_finished,
                Finished(
                    request.terms.name,
                    request.terms.task,
                    outcome,
                    request.texts,
                    request.tokens,
                    request.new_tokens,
                    queue,
                    now - request.arrived,
                    request.steps_waited,
                    None if first is None else first - request.arrived,
                ),
            )

    def _rest(self) -> None:
        for name, lane in list(self._lanes.items()):
            if not len(lane):
                lane.rest()
                del self._lanes[name]

    def _post(self, request: Request, call: Callable[[], None]) -> None:
        self._outbox.setdefault(request.loop, []).append(call)

    def _flush(self) -> None:
        """Tells the clients what is new: one call into each event loop."""
        outbox, self._outbox = self._outbox, {}
        for loop, calls in outbox.items():
            with contextlib.suppress(RuntimeError):  # the event loop has ended meanwhile
                loop.call_soon_threadsafe(_call_all, calls)

    @staticmethod
    def _tell(hook: Callable[[Any], None], what: Any) -> None:
        try:
            hook(what)
        except Exception:  # the hook's own fault: no client shall suffer for it
            log.exception("a hook of the scheduler has failed")


def _has_part(request: Request) -> bool:
    if isinstance(request, TextRequest):
        return request.share > 0
    return isinstance(request, EncoderRequest) and bool(request.taken())


def _call_all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _add(counts: dict[str, int], name: str, more: int) -> None:
    counts[name] = counts.get(name, 0) + more

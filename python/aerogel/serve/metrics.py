"""What a server counts, as Prometheus reads it. Names are text-embeddings-inference's where the thing is the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, UnknownMetricFamily

from aerogel.engine.scheduling import Finished, Metrics, Step

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)
_POWERS = tuple(2**i for i in range(15))
#: Tasks of the scheduler -> the word that text-embeddings-inference counts them under.
_WORDS = {"sentence": "embed", "tokens": "embed", "sparse": "embed", "score": "predict", "generate": "generate"}


class Counters:
    """The figures of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str, str], int] = {}
        self._read: Callable[[], Metrics] | None = None
        self._loaded: Callable[[], dict[str, int]] | None = None

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, registry=self.registry, buckets=buckets)

        self._duration = histogram("te_request_duration", "Seconds from a request's arrival to its end", _SECONDS)
        self._queue = histogram("te_request_queue_duration", "Seconds until its first step", _SECONDS)
        self._inference = histogram("te_request_inference_duration", "Seconds from its first step to its end", _SECONDS)
        self._length = histogram("te_request_input_length", "Tokens of a request's texts or prompt", _POWERS)
        self._size = histogram("te_batch_next_size", "Sequences of a step", _POWERS)
        self._tokens = histogram("te_batch_next_tokens", "Tokens of a step", _POWERS)
        self._first = histogram("aerogel_first_token_seconds", "Seconds until a text's first token", _SECONDS)
        self._step = histogram("aerogel_step_seconds", "Seconds of a step", _SECONDS)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def watch(self, read: Callable[[], Metrics], loaded: Callable[[], dict[str, int]]) -> None:
        """Reads what a scheduler knows when it is asked for. `loaded`: bytes of weights of each loaded model."""
        self._read, self._loaded = read, loaded

    def add(self, name: str, label: str = "", value: str = "", by: int = 1) -> None:
        """Counts up."""
        with self._lock:
            key = (name, label, value)
            self._counts[key] = self._counts.get(key, 0) + by

    def step(self, step: Step) -> None:
        """A step was run."""
        self._size.observe(sum(step.sequences.values()))
        self._tokens.observe(sum(step.tokens.values()))
        self._step.observe(step.seconds)

    def finished(self, request: Finished) -> None:
        """A request has ended."""
        word = _WORDS.get(request.task, request.task)
        self.add(f"te_{word}_count")
        if request.outcome == "done":
            self.add(f"te_{word}_success")
        self._duration.observe(request.seconds)
        self._queue.observe(request.queue_seconds)
        self._inference.observe(max(0.0, request.seconds - request.queue_seconds))
        self._length.observe(request.tokens)
        if request.first_token_seconds is not None:
            self._first.observe(request.first_token_seconds)

    def collect(self) -> Iterator[Any]:
        """Prometheus asks. Sums are of type unknown: its library would put _total behind the name of a counter."""
        with self._lock:
            counts = sorted(self._counts.items())
        families: dict[str, Any] = {}
        for (name, label, value), count in counts:
            if name not in families:
                families[name] = UnknownMetricFamily(name, "", labels=[label] if label else [])
            families[name].add_metric([value] if label else [], count)
        yield from families.values()
        if self._read is None or self._loaded is None:
            return
        now = self._read()
        yield GaugeMetricFamily("te_queue_size", "Requests that are there", now.queued)
        yield GaugeMetricFamily("aerogel_queued_tokens", "Tokens that have not been run", now.queued_tokens)
        yield GaugeMetricFamily("aerogel_kv_bytes", "Bytes of keys and values that are kept free", now.kv_bytes)
        for name, values in (("aerogel_tokens", now.tokens), ("aerogel_new_tokens", now.new_tokens)):
            family = UnknownMetricFamily(name, "", labels=["model"])
            for model, sum_ in sorted(values.items()):
                family.add_metric([model], sum_)
            yield family
        weights = GaugeMetricFamily("aerogel_model_bytes", "Bytes of the weights of loaded models", labels=["model"])
        for model, size in sorted(self._loaded().items()):
            weights.add_metric([model], size)
        yield weights

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return bytes(generate_latest(self.registry))

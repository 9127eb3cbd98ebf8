"""Weights of a checkpoint as the engine runs them: packed for this CPU, in parallel and ahead of their use."""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from aerogel._core import PackedWeight, Table, WeightSource
from aerogel._core import pack as pack_weight
from aerogel._util.progress import Progress
from aerogel.architectures import Group, Role, Tensor
from aerogel.checkpoint import Checkpoint
from aerogel.checkpoint.blocks import Blocks
from aerogel.checkpoint.weight import Weight, check_finite, dense_product
from aerogel.engine.hidden_order import HiddenOrder, sorting_gains
from aerogel.engine.quantized import QuantizedWeights
from aerogel.engine.sources import weight_source
from aerogel.errors import AerogelError
from aerogel.tuning import Forms, Layer, Tuner, dense_format, in_turn, numbers_of

log = logging.getLogger("aerogel")


class PackedParameters:
    """The tensors of one checkpoint as a Program wants them.

    Linears are packed, in parallel and ahead of their use; embeddings become tables, vectors float32. A table in blocks of
    GGUF is packed too, and a head that is tied to it shares its bytes.

    `format` is "auto": `tuner` picks; the name of a kernel format; or "dense": the dense format of whatever the values are.
    `progress` hears of kinds of layers that are measured. `quant`: matrices are quantized so while they are read, see
    `QuantizedWeights`; None: they are what the checkpoint has. `groups` are those of the architecture: the hidden units of
    feed-forward blocks are packed in another order where that is faster and changes nothing, see `hidden_order`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        tensors: Sequence[Tensor],
        tuner: Tuner,
        format: str = "auto",
        progress: Progress | None = None,
        quant: str | None = None,
        groups: Sequence[Group] = (),
    ) -> None:
        self._quantized = None if quant is None else QuantizedWeights(checkpoint, tensors, quant)
        self._checkpoint = checkpoint
        self._tensors = {t.name: t for t in tensors}
        # What is quantized on the way is not sorted: finding the order would quantize it once more.
        gains = quant is None and sorting_gains(format)
        self._order = HiddenOrder(groups if gains else (), self._tensors, checkpoint.stored)
        self._tuner = tuner
        self._format = format
        self._progress = progress
        self._executor = ThreadPoolExecutor(max_workers=tuner.threads, thread_name_prefix="aerogel-pack")
        self._packing: dict[tuple[str, ...], Future[PackedWeight | Layer]] = {}
        self._uses: Counter[tuple[str, ...]] = Counter()  # that are still to come
        self._embeddings: dict[str, Weight] = {}
        self._reading = threading.Lock()
        self._untied: set[tuple[str, ...]] | None = None  # tables in blocks that no linear shares
        self.table_bytes = 0

    def __enter__(self) -> PackedParameters:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After Ctrl-C nobody waits for what the threads are at: each ends with the tensor that it has begun.
        self._executor.shutdown(wait=kind is None or issubclass(kind, Exception), cancel_futures=True)

    def prepare(self, stacks: Iterable[tuple[str, ...]]) -> None:
        """Starts packing; each stack is a tuple of parameter names, stacked along N into one linear, which is packed once
        however often it stands there. Tables in blocks are packed too."""
        stacks = list(stacks)
        if self._untied is None:
            tables: set[tuple[str, ...]] = {
                (t.name,) for t in self._tensors.values() if t.role is Role.EMBEDDING and self._in_blocks(t.name)
            }
            self._untied = tables - {*stacks}
            stacks += sorted(tables)
        self._uses.update(stacks)
        self._start(dict.fromkeys(stacks))

    def _start(self, stacks: Iterable[tuple[str, ...]]) -> None:
        # The largest come first: what they are packed from is in memory while the others are not.
        for stack in sorted(stacks, key=lambda names: -sum(math.prod(self._checkpoint.shape(name)) for name in names)):
            try:
                self._packing[stack] = self._executor.submit(self._pack, stack)
            except RuntimeError as error:  # a limit of the system or of a container
                raise AerogelError(
                    f"threads: the system starts none of {self._tuner.threads} for packing: {error}"
                ) from error

    def linear(self, *names: str) -> PackedWeight:
        """The named parameters stacked along N and packed."""
        if names not in self._packing:
            self.prepare([names])
        packed = self._packing[names].result()
        if isinstance(packed, Layer):
            self._measure()
            packed = self._packing[names].result()
        assert not isinstance(packed, Layer)
        self._uses[names] -= 1
        if not self._uses[names]:
            del self._packing[names]
        return packed

    def _measure(self) -> None:
        """Measures the kernels of all kinds of layers that wait for it, alone, so that packing does not disturb; then those
        layers are packed."""
        wait(self._packing.values())
        waiting = {stack: future.result() for stack, future in self._packing.items()}
        stacks = {layer: stack for stack, layer in waiting.items() if isinstance(layer, Layer)}
        kinds = in_turn(stacks)
        for done, layer in enumerate(kinds):
            if self._progress is not None:
                self._progress(done, len(kinds), f"{layer.n}x{layer.k}, {layer.sparsity:.0%} zeros")
            source, alive = self._source(stacks[layer])
            if self._tuner.known(source) is None:  # it may follow from those before
                self._tuner.measure(source)
            self._keep(stacks[layer], alive)
            del source, alive  # so that a model is never in memory twice
        if self._progress is not None:
            self._progress(len(kinds), len(kinds), "")
        self._start(stack for stack, layer in waiting.items() if isinstance(layer, Layer))

    def limit(self, *names: str) -> float:
        """What bounds the codes of the input that the named parameters share; 0: each token's own largest value does."""
        if self._quantized is not None:  # of other codes
            return 0.0
        limits = [self._checkpoint.input_limit(name) for name in names]
        return max((limit for limit in limits if limit is not None), default=0.0)

    def table(self, name: str) -> Table:
        """An embedding table, in the numbers that the file has, or quantized."""
        label = self._tensors[name].label
        if self._in_blocks(name):
            packed = self.linear(name)
            if (name,) in (self._untied or ()):  # else the plan counts it
                self.table_bytes += packed.nbytes
            return Table(label, packed)
        weight = self._weight(name)
        if weight.levels is not None:  # decoded once, exactly
            values, scale = np.ascontiguousarray(weight.codes()), weight.scale
        elif weight.mask is not None or weight.numbers == "int8g":
            values, scale = np.ascontiguousarray(weight.dense(), np.float32), None
        else:
            values, scale = np.ascontiguousarray(weight.values), weight.scale
        for array in (values, scale):
            if array is not None and array.dtype != np.int8:
                check_finite(label, array)
        self.table_bytes += values.nbytes + (0 if scale is None else scale.nbytes)
        if scale is None:
            return Table(label, values)
        return Table(label, values, np.ascontiguousarray(scale))

    def _in_blocks(self, name: str) -> bool:
        """Whether the matrix runs in the blocks that a GGUF file has."""
        if self._quantized is not None or name not in self._checkpoint:
            return False
        return self._checkpoint.block_type(name) is not None

    def vector(self, name: str) -> np.ndarray:
        """A norm or bias, float32."""
        array = np.ascontiguousarray(self._checkpoint.array(name), dtype=np.float32)
        check_finite(self._tensors[name].label, array)
        return self._order.vector(name, array)

    def vectors(self, *names: str | int) -> np.ndarray:
        """Biases laid end to end, as stacked linears want them; a number stands for so many zeros."""
        return np.concatenate([self.vector(n) if isinstance(n, str) else np.zeros(n, np.float32) for n in names])

    def product(self, rows: np.ndarray, *names: str) -> np.ndarray:
        """Constant rows [R, K] times the transposed weights of the named linears, rounded as they are, float32 [R, N]."""
        return dense_product(rows, [self._weight(name) for name in names])

    def _pack(self, names: tuple[str, ...]) -> PackedWeight | Layer:
        """Stacked and packed; the kind of layer if its kernels have not been measured yet."""
        source, alive = self._source(names)
        formats: Forms | str | None = self._format
        if formats == "auto":
            formats = self._tuner.known(source)
        elif formats == "dense":
            formats = dense_format(numbers_of(source))
        packed = self._tuner.kind(source) if formats is None else pack_weight(source, formats)
        if formats is None:  # packed after it was measured
            self._keep(names, alive)
        del source, alive  # so that a model is never in memory twice
        return packed

    def _source(self, names: tuple[str, ...]) -> tuple[WeightSource, list[Any]]:
        """The named parameters stacked, and what must live as long."""
        parts = [self._stored(name) for name in names]
        source, alive = weight_source([(self._tensors[n].label, p) for n, p in zip(names, parts, strict=True)])
        return source, [*alive, *parts]

    def _stored(self, name: str) -> Weight | Blocks:
        return self._checkpoint.stored(name) if self._in_blocks(name) else self._weight(name)

    def _weight(self, name: str) -> Weight:
        if self._tensors[name].role is not Role.EMBEDDING:
            return self._read(name)
        with self._reading:  # once, also where a head is tied to it: its table stays in memory anyway
            if name not in self._embeddings:
                self._embeddings[name] = self._read(name)
            return self._embeddings[name]

    def _read(self, name: str) -> Weight:
        if self._quantized is not None:
            return self._quantized.weight(name)
        found = self._checkpoint.stored(name)
        return self._order.weight(name, found) if isinstance(found, Weight) else self._checkpoint.weight(name)

    def _keep(self, names: Sequence[str], alive: Sequence[Any]) -> None:
        """Holds what was quantized for a stack: rounding takes longer than reading again."""
        if self._quantized is not None:
            parts = [part for part in alive if isinstance(part, Weight)]
            for name, part in zip(names, parts, strict=True):
                self._quantized.hold(name, part)

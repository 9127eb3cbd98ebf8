"""Running a model op by op, so that the input of every linear can be seen, and its weights replaced, on the way.

An architecture writes itself down by calling a `Program`. `Eager` has the same methods, but computes at once: what would
be the number of a value is the value itself, for all tokens of the calibration texts. So calibration needs no code of any
model family, and a layer that is compressed passes its own results on to the next.

Ops other than linears and attention run in the engine, each as a program of one op.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel import _core
from aerogel.calibrate.attention import attention
from aerogel.errors import DataError

if TYPE_CHECKING:
    from aerogel.architectures import Architecture, Tensor
    from aerogel.checkpoint import Checkpoint

#: Ops run as the portable reference does them, so that what is made of the statistics does not depend on AEROGEL_ISA.
ISA = "scalar"
#: A linear with more outputs than this is seen, not computed: scores over a vocabulary take more memory than the model.
MOST_OUTPUTS = 16384

#: Rows that are in the engine at once: enough for its kernels, few enough that its arena stays small.
CHUNK = 4096

#: What an op makes: float32 [rows, width], one array a stream; a linear that nobody has read yet; None: not computed.
Value = Any


@dataclass(frozen=True)
class Stack:
    """Matrices that are run as one linear: they share their input.

    Attributes:
        names: of the parameters.
        label: what the program calls the linear.
        outputs: rows of each.
    """

    names: tuple[str, ...]
    label: str
    outputs: tuple[int, ...]


class Visitor(ABC):
    """Sees every linear in the order of computation."""

    #: Streams of values that run side by side: 1, or 2 to carry the dense model along with the compressed one.
    streams: int = 1

    @abstractmethod
    def visit(
        self, stack: Stack, inputs: Sequence[np.ndarray], lacking: np.ndarray | None
    ) -> Sequence[Sequence[np.ndarray]]:
        """Returns the weights to go on with, [stream][part of the stack].

        Args:
            stack: what is run.
            inputs: float32 [rows, K] of each stream.
            lacking: float32 [rows, N] if the result is added to a residual that differs between two streams: what the
                second one lacks of the first.
        """

    def bias(self, stack: Stack, bias: np.ndarray) -> Sequence[np.ndarray]:
        """The biases to go on with, float32 [N] of each stream; asked right after `visit`."""
        return [bias] * self.streams


@dataclass
class _Linear:
    """A linear that waits for its first reader: what it is added to says what its result should make good for."""

    stack: Stack
    x: list[np.ndarray]
    bias: np.ndarray | None
    value: list[np.ndarray] | None = None


class EagerWeights:
    """What `Architecture.build` takes its weights from; linears are only named here."""

    def __init__(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
        self._checkpoint = checkpoint
        self._tensors = tensors

    def linear(self, *names: str) -> tuple[str, ...]:
        return names

    def limit(self, *names: str) -> float:
        return 0.0  # inputs are seen as they are

    def table(self, name: str) -> _core.Table:
        return _core.Table(self._tensors[name].label, np.ascontiguousarray(self._checkpoint.weight(name).dense()))

    def vector(self, name: str) -> np.ndarray:
        return np.ascontiguousarray(self._checkpoint.array(name), np.float32)

    def vectors(self, *names: str) -> np.ndarray:
        return np.concatenate([self.vector(name) for name in names])


class Eager:
    """A `Program` that computes as it is written.

    Args:
        tokens: int32 [T], the sequences end to end.
        offsets: int64 [S+1].
        visitor: sees the linears.
        tensors: the architecture's, by name.
        threads: of the engine.
    """

    def __init__(
        self, tokens: np.ndarray, offsets: np.ndarray, visitor: Visitor, tensors: Mapping[str, Tensor], threads: int
    ) -> None:
        self._tokens = tokens
        self._offsets = offsets
        self._visitor = visitor
        self._tensors = tensors
        self._threads = threads
        self.outputs: dict[str, Value] = {}

    def embed(
        self,
        tokens: _core.Table,
        positions: _core.Table | None = None,
        types: _core.Table | None = None,
        position_offset: int = 0,
    ) -> Value:
        program = _core.Program()
        program.output("y", program.embed(tokens, positions, types, position_offset))
        y = self._run(program, self._tokens, self._offsets)
        return [y] * self._visitor.streams

    def linear(
        self,
        name: str,
        x: Value,
        weight: tuple[str, ...],
        bias: np.ndarray | None = None,
        terms: int = 1,
        limit: float = 0.0,
    ) -> Value:
        rows = self._value(x)
        if rows is None:
            return None
        return _Linear(Stack(weight, name, tuple(self._tensors[part].shape[0] for part in weight)), rows, bias)

    def add(self, x: Value, y: Value) -> Value:
        other = self._value(x)
        if isinstance(y, _Linear) and other is not None and other[0] is not other[-1]:
            y = self._run_linear(y, other[0] - other[1])
        rows = self._value(y)
        return None if other is None or rows is None else [a + b for a, b in zip(other, rows, strict=True)]

    def _value(self, x: Value) -> list[np.ndarray] | None:
        return self._run_linear(x, None) if isinstance(x, _Linear) else x

    def _run_linear(self, linear: _Linear, lacking: np.ndarray | None) -> list[np.ndarray] | None:
        if linear.value is None and linear.x:
            stack, inputs, bias = linear.stack, linear.x, linear.bias
            linear.x = []  # the inputs are not needed any more, whoever still holds the result
            parts = self._visitor.visit(stack, inputs, lacking)
            if sum(stack.outputs) <= MOST_OUTPUTS:
                biases = [None] * len(inputs) if bias is None else self._visitor.bias(stack, bias)
                linear.value = [_product(*args) for args in zip(inputs, parts, biases, strict=True)]
        return linear.value

    def layer_norm(self, name: str, x: Value, gamma: np.ndarray, beta: np.ndarray, eps: float) -> Value:
        return self._op(x, lambda p, v: p.layer_norm(name, v, gamma, beta, eps))

    def rms_norm(self, name: str, x: Value, gamma: np.ndarray, eps: float) -> Value:
        return self._op(x, lambda p, v: p.rms_norm(name, v, gamma, eps))

    def activation(self, x: Value, kind: str) -> Value:
        # in place: it is what a linear made for it, the widest of all values
        return self._op(x, lambda p, v: p.activation(v, kind), in_place=True)

    def silu_gate(self, x: Value) -> Value:
        return self._op(x, lambda p, v: p.silu_gate(v))

    def rope(self, x: Value, heads: int, head_dim: int, cos: np.ndarray, sin: np.ndarray) -> Value:
        return self._op(x, lambda p, v: p.rope(v, heads, head_dim, cos, sin))

    def attention(
        self,
        name: str,
        x: Value,
        heads: int,
        kv_heads: int,
        head_dim: int,
        causal: bool,
        scale: float | None = None,
    ) -> Value:
        values = self._value(x)
        if values is None:
            return None
        factor = 1 / math.sqrt(head_dim) if scale is None else scale
        results: list[np.ndarray] = []
        for rows in values:
            if results and rows is values[0]:
                results.append(results[0])
            else:
                results.append(attention(rows, self._offsets, heads, kv_heads, head_dim, causal, factor))
        return results

    def select_last(self, x: Value) -> Value:
        return x

    def pool(self, x: Value, kind: str) -> Value:
        return self._op(x, lambda p, v: p.pool(v, kind))

    def l2_normalize(self, x: Value) -> Value:
        return self._op(x, lambda p, v: p.l2_normalize(v))

    def output(self, name: str, x: Value) -> None:
        self.outputs[name] = self._value(x)

    def set_max_positions(self, limit: int) -> None:
        pass

    def _op(self, x: Value, write: Callable[[_core.Program, int], int], in_place: bool = False) -> Value:
        """One op in the engine; an embedding table that is looked up row by row serves as its input."""
        values = self._value(x)
        if values is None:
            return None
        results: list[np.ndarray] = []
        for i, rows in enumerate(values):
            if i and rows is values[0]:  # both streams are still the same
                results.append(results[0])
            else:
                shared = in_place and len(values) > 1 and values[0] is values[-1]
                results.append(self._chunks(rows, write, rows if in_place and not shared else None))
        return results

    def _chunks(
        self, rows: np.ndarray, write: Callable[[_core.Program, int], int], out: np.ndarray | None
    ) -> np.ndarray:
        offsets = self._offsets if len(rows) == len(self._tokens) else np.arange(len(rows) + 1, dtype=np.int64)
        done = 0  # rows of the result: those of the input, or one a sequence
        first = 0
        while first < len(offsets) - 1:
            last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + CHUNK, "right")) - 1)
            part = rows[offsets[first] : offsets[last]]
            program = _core.Program()
            program.output("y", write(program, program.embed(_core.Table("input", part))))
            y = self._run(program, np.arange(len(part), dtype=np.int32), offsets[first : last + 1] - offsets[first])
            if out is None:
                out = np.empty((len(rows) if len(y) == len(part) else len(offsets) - 1, y.shape[1]), np.float32)
            out[done : done + len(y)] = y
            done += len(y)
            first = last
        assert out is not None
        return out

    def _run(self, program: _core.Program, tokens: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        return _core.Session(_core.Plan(program, self._threads, ISA)).run(tokens, offsets, "y")


def _product(x: np.ndarray, parts: Sequence[np.ndarray], bias: np.ndarray | None) -> np.ndarray:
    y = np.empty((len(x), sum(len(part) for part in parts)), np.float32)
    begin = 0
    for part in parts:
        np.matmul(x, part.T, out=y[:, begin : begin + len(part)])
        begin += len(part)
    if bias is not None:
        y += bias
    return y


def walk(
    architecture: Architecture,
    checkpoint: Checkpoint,
    sequences: Sequence[Sequence[int]],
    visitor: Visitor,
    threads: int | None = None,
) -> dict[str, Value]:
    """Runs all `sequences` through the model; `visitor` sees each linear once, in the order of computation.

    Returns the model's outputs, one array a stream. Memory: some values of [all tokens, width], float32, for each stream.

    Raises:
        DataError: a token is outside the vocabulary, or a sequence is empty or longer than the model's positions.
    """
    lengths = [len(sequence) for sequence in sequences]
    if not lengths or min(lengths) < 1 or max(lengths) > architecture.max_positions:
        raise DataError(
            f"calibration: expected sequences of 1 to {architecture.max_positions} tokens, got "
            + (f"{min(lengths)} to {max(lengths)}" if lengths else "none")
        )
    tensors = {tensor.name: tensor for tensor in architecture.tensors()}
    tokens = np.concatenate([np.asarray(sequence, np.int32) for sequence in sequences])
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    program: Any = Eager(tokens, offsets, visitor, tensors, threads or _core.default_threads())
    weights: Any = EagerWeights(checkpoint, tensors)
    architecture.build(program, weights)
    return program.outputs

"""Running a model op by op, so that the input of every linear can be seen, and its weights replaced, on the way.

An architecture writes itself down by calling a `Program`. `Eager` has the same methods, but what would be the number of a
value is the value itself, over all calibration texts. So calibration needs no code of any model family, and a layer that
is compressed passes its own results on to the next.

A linear is visited when the op that reads it is written down; values are computed in blocks of texts when a visitor reads
them, see `values.py`. Ops other than linears run in the engine, each as a program of one op; so do linears with many zeros,
in its kernel of single-precision numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from aerogel._core import Plan, Program, Rotary, Session, Table
from aerogel.calibrate.linears import ISA, multiplying, product
from aerogel.calibrate.values import Block, Value
from aerogel.calibrate.visitor import Inputs, Stack, Visitor
from aerogel.checkpoint.weight import dense_product

if TYPE_CHECKING:
    from aerogel.architectures import Tensor
    from aerogel.checkpoint import Checkpoint

#: A linear with more outputs than this is seen, not computed: scores over a vocabulary take more memory than the model.
MOST_OUTPUTS = 16384


@dataclass
class _Linear:
    """A linear that waits for its first reader: what it is added to says what its result should make good for."""

    stack: Stack
    x: Value | None
    bias: np.ndarray | None
    value: Value | None = None


class _Visited(NamedTuple):
    """What a visitor says of a linear, of each stream."""

    parts: Sequence[Sequence[np.ndarray]]
    biases: Sequence[np.ndarray | None]


#: What stands for a value while the model is written down; None: it is not computed.
Written: TypeAlias = Value | _Linear | None


class EagerParameters:
    """What `Architecture.build` takes its weights from; linears are only named here."""

    def __init__(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
        self._checkpoint = checkpoint
        self._tensors = tensors

    def linear(self, *names: str) -> tuple[str, ...]:
        return names

    def dense(self, names: tuple[str, ...]) -> list[np.ndarray]:
        """float32 [N,K] of each part of what `linear` has given."""
        return [self._checkpoint.weight(name).dense() for name in names]

    def limit(self, *names: str) -> float:
        return 0.0  # inputs are seen as they are

    def table(self, name: str) -> Table:
        return Table(self._tensors[name].label, np.ascontiguousarray(self._checkpoint.weight(name).dense()))

    def vector(self, name: str) -> np.ndarray:
        return np.ascontiguousarray(self._checkpoint.array(name), np.float32)

    def vectors(self, *names: str | int) -> np.ndarray:
        return np.concatenate([self.vector(n) if isinstance(n, str) else np.zeros(n, np.float32) for n in names])

    def product(self, rows: np.ndarray, *names: str) -> np.ndarray:
        return dense_product(rows, [self._checkpoint.weight(name) for name in names])


class Eager:
    """A `Program` that computes what it is told, once somebody asks.

    Args:
        checkpoint: where the weights are.
        blocks: the calibration texts.
        visitor: sees the linears.
        tensors: the architecture's, by name.
        shared: the linears that are run more than once. The visitor sees such a one where it is run first, and what it
            returns is gone on with everywhere.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        blocks: Sequence[Block],
        visitor: Visitor,
        tensors: Mapping[str, Tensor],
        shared: Set[tuple[str, ...]] = frozenset(),
    ) -> None:
        self._checkpoint = checkpoint
        self._blocks = blocks
        self._visitor = visitor
        self._tensors = tensors
        self._rows = visitor.streams * sum(len(block.tokens) for block in blocks)
        self._model = sum(math.prod(tensor.shape) for tensor in tensors.values())
        self.outputs: dict[str, Value | None] = {}
        self._shared: dict[tuple[str, ...], _Visited | None] = dict.fromkeys(shared)

    def embed(
        self,
        tokens: Table,
        positions: Table | None = None,
        types: Table | None = None,
        position_offset: int = 0,
    ) -> Value:
        program = Program()
        program.output("y", program.embed(tokens, positions, types, position_offset))
        plan = Plan(program, 1, ISA)

        def look_up(i: int, _: int) -> np.ndarray:
            block = self._blocks[i]
            return Session(plan).run(block.tokens, block.offsets, "y")

        return self._made(look_up, keep=True)

    def linear(
        self,
        name: str,
        x: Written,
        weight: tuple[str, ...],
        bias: np.ndarray | None = None,
        terms: int = 1,
        limit: float = 0.0,
    ) -> _Linear:
        return _Linear(
            Stack(weight, name, tuple(self._tensors[part].shape[0] for part in weight)), self._value(x), bias
        )

    def add(self, x: Written, y: Written) -> Value | None:
        other = self._value(x)
        rows = self._run_linear(y, other) if isinstance(y, _Linear) else self._value(y)
        if other is None or rows is None:
            return None
        return self._made(lambda i, s: other.rows(i, s) + rows.rows(i, s), other, rows, keep=True)

    def _value(self, x: Written) -> Value | None:
        return self._run_linear(x, None) if isinstance(x, _Linear) else x

    def _run_linear(self, linear: _Linear, residual: Value | None) -> Value | None:
        if linear.value is None and linear.x is not None:
            stack, x, bias = linear.stack, linear.x, linear.bias
            linear.x = None  # the inputs are not needed any more, whoever still holds the result
            dense = self._dense(stack, x)
            visited = self._shared.get(stack.names) or self._visit(stack, x, bias, residual, dense)
            if stack.names in self._shared:
                self._shared[stack.names] = visited
            if sum(stack.outputs) <= MOST_OUTPUTS:
                linear.value = self._results(visited, x, dense)
        return linear.value

    def _dense(self, stack: Stack, x: Value) -> Value | None:
        """What the dense model's linear makes of the first stream, without its bias; None: wider than what it is made of."""
        if self._visitor.streams == 1 or sum(stack.outputs) > self._tensors[stack.names[0]].shape[1]:
            return None
        weights = [self._checkpoint.weight(name).dense() for name in stack.names]
        return Value(self._blocks, lambda i, _: product(x.rows(i, 0), weights, None), 1, False, True, x.pooled)

    def _results(self, visited: _Visited, x: Value, dense: Value | None) -> Value:
        products = [multiplying(parts, bias) for parts, bias in zip(visited.parts, visited.biases, strict=True)]
        first = visited.biases[0]
        known = dense if dense is not None and dense.begun else None

        def make(i: int, stream: int) -> np.ndarray:
            if stream or known is None:
                return products[stream](x.rows(i, stream))
            return known.rows(i, 0) if first is None else known.rows(i, 0) + first

        return self._made(make, x, differs=True)

    def _visit(
        self, stack: Stack, x: Value, bias: np.ndarray | None, residual: Value | None, dense: Value | None
    ) -> _Visited:
        inputs = Inputs(x, residual, 0.0 if residual is None else self._gain(stack), dense)
        parts = self._visitor.visit(stack, inputs)
        biases = [None] * self._visitor.streams if bias is None else self._visitor.bias(stack, bias)
        return _Visited(parts, biases)

    def _gain(self, stack: Stack) -> float:
        """Mean square of what comes out for 1 that goes in, if inputs were independent: |W|^2 / N."""
        squares = 0.0
        for name in stack.names:
            weight = self._checkpoint.weight(name).dense()
            squares += float(np.einsum("nk,nk->", weight, weight, dtype=np.float64))
        return squares / sum(stack.outputs)

    def layer_norm(self, name: str, x: Written, gamma: np.ndarray, beta: np.ndarray, eps: float) -> Value | None:
        return self._op(x, lambda p, v: p.layer_norm(name, v, gamma, beta, eps))

    def rms_norm(self, name: str, x: Written, gamma: np.ndarray, eps: float) -> Value | None:
        return self._op(x, lambda p, v: p.rms_norm(name, v, gamma, eps))

    def activation(self, x: Written, kind: str) -> Value | None:
        return self._op(x, lambda p, v: p.activation(v, kind), keep=self._is_small(x))

    def gate(self, x: Written, kind: str) -> Value | None:
        return self._op(x, lambda p, v: p.gate(v, kind), keep=self._is_small(x, 2))

    def scale(self, x: Written, factor: float) -> Value | None:
        return self._op(x, lambda p, v: p.scale(v, factor))

    def qk_norm(
        self,
        name: str,
        x: Written,
        heads: int,
        kv_heads: int,
        head_dim: int,
        query_gamma: np.ndarray,
        key_gamma: np.ndarray,
        eps: float,
    ) -> Value | None:
        return self._op(x, lambda p, v: p.qk_norm(name, v, heads, kv_heads, head_dim, query_gamma, key_gamma, eps))

    def rope(self, x: Written, heads: int, head_dim: int, rotary: Rotary) -> Value | None:
        return self._op(x, lambda p, v: p.rope(v, heads, head_dim, rotary))

    def attention(
        self,
        name: str,
        x: Written,
        heads: int,
        kv_heads: int,
        head_dim: int,
        causal: bool,
        scale: float | None = None,
        window: int | None = None,
        softcap: float = 0.0,
        bias: np.ndarray | None = None,
        slopes: np.ndarray | None = None,
    ) -> Value | None:
        def write(p: Program, v: int) -> int:
            return p.attention(name, v, heads, kv_heads, head_dim, causal, scale, window, softcap, bias, slopes)

        return self._op(x, write, keep=True)

    def disentangled_attention(
        self,
        name: str,
        x: Written,
        heads: int,
        head_dim: int,
        scale: float,
        rows: np.ndarray,
        position_keys: np.ndarray | None = None,
        position_queries: np.ndarray | None = None,
    ) -> Value | None:
        def write(p: Program, v: int) -> int:
            return p.disentangled_attention(name, v, heads, head_dim, scale, rows, position_keys, position_queries)

        return self._op(x, write, keep=True)

    def short_conv(self, name: str, x: Written, kernel: np.ndarray, bias: np.ndarray | None = None) -> Value | None:
        return self._op(x, lambda p, v: p.short_conv(name, v, kernel, bias), keep=True)

    def join(self, parts: Sequence[Written], shifts: Sequence[int]) -> Value | None:
        values = [self._value(part) for part in parts]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None

        def joined(i: int, stream: int) -> np.ndarray:
            offsets = self._blocks[i].offsets
            moved = [shifted(x.rows(i, stream), offsets, by) for x, by in zip(known, shifts, strict=True)]
            return np.concatenate(moved, axis=1)

        return self._made(joined, *known)

    def select_last(self, x: Written) -> Written:
        return x

    def pool(self, x: Written, kinds: Sequence[str]) -> Value | None:
        return self._op(x, lambda p, v: p.pool(v, kinds), keep=True, pooled=True)

    def l2_normalize(self, x: Written) -> Value | None:
        return self._op(x, lambda p, v: p.l2_normalize(v))

    def output(self, name: str, x: Written) -> None:
        self.outputs[name] = self._value(x)

    def set_max_positions(self, limit: int) -> None:
        pass

    def _is_small(self, x: Written, part: int = 1) -> bool:
        """Whether 1 / `part` of the columns of a linear's result are no larger than the model, for all tokens."""
        return isinstance(x, _Linear) and self._rows * sum(x.stack.outputs) // part <= self._model

    def _op(
        self, x: Written, write: Callable[[Program, int], int], keep: bool = False, pooled: bool = False
    ) -> Value | None:
        """One op in the engine; an embedding table that is looked up row by row serves as its input."""
        value = self._value(x)
        if value is None:
            return None

        def compute(i: int, stream: int) -> np.ndarray:
            rows = value.rows(i, stream)
            offsets = np.arange(len(rows) + 1, dtype=np.int64) if value.pooled else self._blocks[i].offsets
            program = Program()
            program.output("y", write(program, program.embed(Table("input", rows))))
            session = Session(Plan(program, 1, ISA))
            return session.run(np.arange(len(rows), dtype=np.int32), offsets, "y")

        return self._made(compute, value, keep=keep, pooled=pooled)

    def _made(
        self,
        make: Callable[[int, int], np.ndarray],
        *inputs: Value,
        keep: bool = False,
        pooled: bool = False,
        differs: bool = False,
    ) -> Value:
        streams = self._visitor.streams
        differs = streams > 1 and (differs or any(value.differs for value in inputs))
        pooled = pooled or any(value.pooled for value in inputs)
        return Value(self._blocks, make, streams, differs, keep, pooled)


def shifted(x: np.ndarray, offsets: np.ndarray, by: int) -> np.ndarray:
    """Row t is row t + `by` of the same sequence, zeros where there is none."""
    lengths = np.diff(offsets)
    source = np.arange(len(x)) + by
    there = (source >= np.repeat(offsets[:-1], lengths)) & (source < np.repeat(offsets[1:], lengths))
    y = np.zeros_like(x)
    y[there] = x[source[there]]
    return y

"""What an architecture writes itself down with: the ops of a program, and where their weights come from.

Four classes are a `Program`, with their `Parameters`:

    _core.Program                           PackedParameters         builds what the engine runs
    aerogel.calibrate.eager.Eager           EagerParameters          computes all calibration texts in NumPy, layer by layer
    aerogel.calibrate.gradients.Moved       EagerParameters          computes a block of texts in NumPy, forward and back
    aerogel.train.program.Ragged            RaggedParameters         computes a batch in PyTorch, with gradients

`tests/architectures/test_program.py` compares them, and names what one of them lacks.

T is the number of tokens of a batch and S that of its sequences; neither is known while a model is written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aerogel._core import Rotary

#: What stands for a value: its number in a program, an array, a tensor. Families only hand it on.
Value: TypeAlias = Any
#: What stands for the weights of a linear.
Matrix: TypeAlias = Any
#: What stands for an embedding table.
Table: TypeAlias = Any
#: A norm's weight or a bias, float32: a NumPy array or a PyTorch tensor. Both know arithmetic: 1 + w.vector(name).
Vector: TypeAlias = Any


class Program(Protocol):
    """Each method appends an op and returns what it makes."""

    def embed(self, tokens: Table, positions: Table = ..., types: Table = ..., position_offset: int = ...) -> Value:
        """[T, H]: the sum of each token's rows."""

    def linear(
        self, name: str, x: Value, weight: Matrix, bias: Vector = ..., terms: int = ..., limit: float = ...
    ) -> Value:
        """[rows, K] -> [rows, N]. terms=2 splits an int8 input in two rows of codes, for inputs with outliers; `limit`
        gives it the fixed scale limit / 127 instead of one a token.
        """

    def add(self, x: Value, y: Value) -> Value:
        """Two values of one shape."""

    def layer_norm(self, name: str, x: Value, gamma: Vector, beta: Vector, eps: float) -> Value:
        """(x - mean) / sqrt(variance + eps) * gamma + beta; beta may be None."""

    def rms_norm(self, name: str, x: Value, gamma: Vector, eps: float) -> Value:
        """x / sqrt(mean of x^2 + eps) * gamma."""

    def activation(self, x: Value, kind: str) -> Value:
        """`kind`: gelu, gelu_tanh, relu, tanh or silu."""

    def gate(self, x: Value, kind: str) -> Value:
        """[rows, 2F] (gate | up) -> activation(gate) * up, [rows, F]. `kind`: silu, gelu, gelu_tanh or relu."""

    def scale(self, x: Value, factor: float) -> Value:
        """x * factor."""

    def qk_norm(
        self,
        name: str,
        x: Value,
        heads: int,
        kv_heads: int,
        head_dim: int,
        query_gamma: Vector,
        key_gamma: Vector,
        eps: float,
    ) -> Value:
        """RMS norms of the queries and the keys in [T, (heads + 2 kv_heads) d] = q | k | v; values stay as they are. Of each
        head by itself where a gamma has d elements, of all heads together where it has heads * d (keys: kv_heads * d).
        """

    def rope(self, x: Value, heads: int, head_dim: int, rotary: Rotary) -> Value:
        """[T, width]: of its first `heads` heads, each one's first 2 * rotary.pairs columns are rotated, by position."""

    def attention(
        self,
        name: str,
        x: Value,
        heads: int,
        kv_heads: int,
        head_dim: int,
        causal: bool,
        scale: float | None = ...,
        window: int | None = ...,
        softcap: float = ...,
        bias: Vector | None = ...,
        slopes: Vector | None = ...,
    ) -> Value:
        """[T, (heads + 2 kv_heads) d] = q | k | v -> [T, heads d]. `scale`: 1 / sqrt(d) unless given.

        A query at position i sees the key at j if, where `causal`, j <= i, and, with a `window`, |j - i| <= window. Scores
        are scale q k, then, with a `softcap`, softcap * tanh(score / softcap), then + bias[h, clamp(j - i, -R, R) + R]
        (`bias`: [heads, 2R + 1]; also the transposed view of an array with the heads last), then - slopes[h] * |j - i|
        (`slopes`: [heads], ALiBi, arXiv 2108.12409).
        """

    def disentangled_attention(
        self,
        name: str,
        x: Value,
        heads: int,
        head_dim: int,
        scale: float,
        rows: NDArray[np.int32],
        position_keys: Vector | None = ...,
        position_queries: Vector | None = ...,
    ) -> Value:
        """[T, 3 heads d] = q | k | v -> [T, heads d], where contents and positions are multiplied with each other (DeBERTa,
        arXiv 2006.03654). The score of the query at position i and the key at j is, of each head,

            scale * (q k + q position_keys[m] + k position_queries[m]),  m = rows[clamp(j - i, -R, R) + R]

        `rows`: int32 [2R + 1], not decreasing. `position_keys`, `position_queries`: [P, heads d], from `Parameters.product`,
        or None.
        """

    def short_conv(self, name: str, x: Value, kernel: Vector, bias: Vector | None = ...) -> Value:
        """[T, 3 W] = B | C | X -> [T, W]: a causal convolution along each sequence, between two gates (LFM2).

        Channel c of the token at position t is C[t, c] (sum_j kernel[c, j] (B X)[t - J + 1 + j, c] + bias[c]); before a
        sequence there are zeros. `kernel`: [W, J], the last column is of the token itself; `bias`: [W].
        """

    def join(self, parts: Sequence[Value], shifts: Sequence[int]) -> Value:
        """[T, a], [T, b], ... -> [T, a + b + ...]: row t has row t + shifts[i] of part i, of the same sequence, or zeros
        where there is none. Without shifts it puts values side by side; shifts of one value are what a convolution reads.
        """

    def select_last(self, x: Value) -> Value:
        """[T, H] -> [S, H] where a call wants the last token of each sequence only; else x."""

    def pool(self, x: Value, kinds: Sequence[str]) -> Value:
        """[T, H] -> [S, n H], n kinds side by side. A kind is one of `MODES`."""

    def l2_normalize(self, x: Value) -> Value:
        """Table of length 1."""

    def output(self, name: str, x: Value) -> None:
        """Names a value that can be asked for."""

    def set_max_positions(self, limit: int) -> None:
        """No sequence may be longer."""


class Parameters(Protocol):
    """The tensors of one checkpoint, by name."""

    def linear(self, *names: str) -> Matrix:
        """The named parameters stacked along N."""

    def limit(self, *names: str) -> float:
        """What bounds the codes of the input that the named parameters share; 0: each token's own largest value does."""

    def table(self, name: str) -> Table:
        """An embedding table."""

    def vector(self, name: str) -> Vector:
        """A norm or bias."""

    def vectors(self, *names: str | int) -> Vector:
        """Biases laid end to end, as stacked linears want them; a number stands for so many zeros."""

    def product(self, rows: Vector, *names: str) -> Vector:
        """[R, K] -> [R, N]: constant rows times the transposed weights of the named linears, stacked along N; in float32."""

"""What an architecture writes itself down with: the ops of a program, and where their weights come from.

Two classes have each of these interfaces: `_core.Program` with `Weights` builds what the engine runs, and `Eager` with
`EagerWeights` (aerogel.calibrate.eager) computes at once, for calibration. `tests/architectures/test_program.py` compares
them, and names what one of them lacks.

T is the number of tokens of a batch and S that of its sequences; neither is known while a model is written down.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np

from aerogel import _core

#: What stands for a value: its number in a program, or the value itself.
Value = TypeVar("Value")
#: What stands for the weights of a linear.
Weight = TypeVar("Weight")
Made = TypeVar("Made", covariant=True)


class Program(Protocol[Value, Weight]):
    """Each method appends an op and returns what it makes."""

    def embed(
        self,
        tokens: _core.Table,
        positions: _core.Table | None = None,
        types: _core.Table | None = None,
        position_offset: int = 0,
    ) -> Value:
        """[T, H]: the sum of each token's rows."""

    def linear(
        self,
        name: str,
        x: Value,
        weight: Weight,
        bias: np.ndarray | None = None,
        terms: int = 1,
        limit: float = 0.0,
    ) -> Value:
        """[rows, K] -> [rows, N]. terms=2 splits an int8 input in two rows of codes, for inputs with outliers; `limit`
        gives it the fixed scale limit / 127 instead of one a token.
        """

    def add(self, x: Value, y: Value) -> Value:
        """Two values of one shape."""

    def layer_norm(self, name: str, x: Value, gamma: np.ndarray, beta: np.ndarray | None, eps: float) -> Value: ...

    def rms_norm(self, name: str, x: Value, gamma: np.ndarray, eps: float) -> Value: ...

    def activation(self, x: Value, kind: str) -> Value:
        """`kind`: gelu, gelu_tanh, relu, tanh or silu."""

    def silu_gate(self, x: Value) -> Value:
        """[rows, 2F] (gate | up) -> silu(gate) * up, [rows, F]."""

    def rope(self, x: Value, heads: int, head_dim: int, cos: np.ndarray, sin: np.ndarray) -> Value:
        """[T, width]: its first `heads` heads are rotated, by cos and sin [positions, head_dim / 2]."""

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
        """[T, (heads + 2 kv_heads) d] = q | k | v -> [T, heads d]. `scale`: 1 / sqrt(d) unless given."""

    def select_last(self, x: Value) -> Value:
        """[T, H] -> [S, H] where a call wants the last token of each sequence only; else x."""

    def pool(self, x: Value, kind: str) -> Value:
        """[T, H] -> [S, H]. `kind`: mean, max, cls or last."""

    def l2_normalize(self, x: Value) -> Value:
        """Rows of length 1."""

    def output(self, name: str, x: Value) -> None:
        """Names a value that can be asked for."""

    def set_max_positions(self, limit: int) -> None:
        """No sequence may be longer."""


class Weights(Protocol[Made]):
    """The tensors of one checkpoint, by name."""

    def linear(self, *names: str) -> Made:
        """The named parameters stacked along N."""

    def limit(self, *names: str) -> float:
        """What bounds the codes of the input that the named parameters share; 0: each token's own largest value does."""

    def table(self, name: str) -> _core.Table:
        """An embedding table."""

    def vector(self, name: str) -> np.ndarray:
        """A norm or bias, float32."""

    def vectors(self, *names: str) -> np.ndarray:
        """Biases laid end to end, as stacked linears want them."""

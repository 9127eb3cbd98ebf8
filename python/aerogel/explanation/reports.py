"""What `explain` found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LayerReport:
    """One linear layer. Times are milliseconds of a forward pass.

    Attributes:
        name: of the layer.
        shape: (N, K).
        sparsity: fraction of zeros, counted.
        pattern: how the zeros lie: "unstructured", "Q:64", "2:4", "4:8", "1x4", "4x1", "2x1", "Q:64x4" and so on,
            "empty"; "dense" if they are few.
        numbers: "int8", "bf16", "float16" or "float32".
        forms: the packed forms: format, isa, nbytes, max_rows.
        format: of the form that ran.
        nbytes: bytes of all forms.
        measured_ms: in the forward pass.
        dense_ms: the same layer in the dense format, in turn with it.
        predicted_ms: what the layer's kernel took by itself when it was measured; None if it is dense for sure.
        wins_from: the sparsity from which a sparse format is faster than dense, on this CPU, at this shape and number of
            rows, for random patterns; None if it never is.
        limit: what bounds the int8 codes of the input (static scales); 0: each token's own largest value does.
    """

    name: str
    shape: tuple[int, int]
    sparsity: float
    pattern: str
    numbers: str
    forms: list[dict[str, Any]]
    format: str
    nbytes: int
    measured_ms: float
    dense_ms: float
    predicted_ms: float | None
    wins_from: float | None
    limit: float = 0.0


@dataclass(frozen=True)
class WhatIf:
    """What zeros that nobody has made yet would bring, predicted. Times are milliseconds of a forward pass.

    Attributes:
        scenario: as it was asked for.
        sparsity: of the linears inside the Transformer; other ones (a head) stay as they are.
        pattern: of the zeros.
        quant: scheme of these linears; "": that of the dense form.
        layers: of each linear, by name.
        linear_ms: of all linears.
        total_ms: of the pass: the rest as measured in the dense form.
        dense_linear_ms, dense_total_ms: the same, measured, of the dense form; in int8 where the model's weights are floats.
        numbers: of the dense form's linears: "int8", mostly.
        notes: of each shape: how much of the time it would take, or from how many zeros on it gains.
    """

    scenario: str
    sparsity: float
    pattern: str
    quant: str
    layers: dict[str, float]
    linear_ms: float
    total_ms: float
    dense_linear_ms: float
    dense_total_ms: float
    numbers: str
    notes: list[str]

    @property
    def gain(self) -> float:
        """How many times faster than the dense form the pass would be."""
        return self.dense_total_ms / self.total_ms


@dataclass(frozen=True)
class Explanation:
    """What `explain` found. Times are milliseconds, medians over interleaved forward passes of both models."""

    cpu: str
    isa: str
    threads: int
    batch: int
    tokens: int
    layers: list[LayerReport]
    rest_ms: dict[str, float]  # by op: everything that is not a linear layer
    attention: str  # what it multiplies: float32, int16 or int8
    total_ms: float
    dense_total_ms: float
    advice: list[str]
    what_if: list[WhatIf] = field(default_factory=list)

    @property
    def linear_ms(self) -> float:
        """All linear layers together."""
        return sum(layer.measured_ms for layer in self.layers)

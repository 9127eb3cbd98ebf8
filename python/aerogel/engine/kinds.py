"""The kinds of layers that a loaded model has, as their measurements are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aerogel.architectures import Architecture, Role
from aerogel.engine.model import Model
from aerogel.tuning import WORTH_MEASURING, Layer, layer_named


def kind_of(model: Model, step: Mapping[str, Any]) -> Layer:
    """The kind of the linear that a step of `Model.describe` is."""
    n, k = step["shape"]
    sparsity = 1 - step["nonzeros"] / (n * k)
    facts = model.packed_weight(step["name"]).pattern() if sparsity >= WORTH_MEASURING else None
    return layer_named(step["numbers"], n, k, sparsity, facts, model.threads, model.streamed)


def prunable(steps: Iterable[Mapping[str, Any]], architecture: Architecture) -> list[Mapping[str, Any]]:
    """The linears among the steps of `Model.describe` that compression prunes, each once: those inside the Transformer."""
    labels = {tensor.label for tensor in architecture.tensors() if tensor.role is Role.LINEAR}
    blocks = {label.rpartition(".")[0] for label in labels} - {""}  # several that read one input run as one linear
    heads = {tensor.label for tensor in architecture.tensors() if tensor.role is Role.HEAD}
    found = {step["name"]: step for step in steps if "forms" in step}
    return [
        step
        for name, step in found.items()
        if name in labels or (name not in heads and name.rpartition(".")[0] in blocks)
    ]

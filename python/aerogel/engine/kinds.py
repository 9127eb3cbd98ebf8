"""The kinds of layers that a loaded model has, as their measurements are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aerogel.engine.model import Model
from aerogel.tuning import WORTH_MEASURING, Layer, layer_named


def kind_of(model: Model, step: Mapping[str, Any]) -> Layer:
    """The kind of the linear that a step of `Model.describe` is."""
    n, k = step["shape"]
    sparsity = 1 - step["nonzeros"] / (n * k)
    facts = model.packed_weight(step["name"]).pattern() if sparsity >= WORTH_MEASURING else None
    return layer_named(step["numbers"], n, k, sparsity, facts, model.threads, model.streamed)

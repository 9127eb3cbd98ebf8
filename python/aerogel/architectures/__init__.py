"""Model families: one file each, found by the `model_type` of a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aerogel.architectures.base import (
    PER_LAYER,
    Architecture,
    Config,
    Fold,
    Role,
    Tensor,
    Weights,
    is_folded,
    weight_source,
)
from aerogel.architectures.bert import Bert
from aerogel.architectures.groups import Group, Part
from aerogel.architectures.llama import Llama
from aerogel.errors import UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.checkpoint import Checkpoint, Pooling

__all__ = [
    "ARCHITECTURES",
    "PER_LAYER",
    "Architecture",
    "Config",
    "Fold",
    "Group",
    "Part",
    "Role",
    "Tensor",
    "Weights",
    "architecture_of",
    "is_folded",
    "weight_source",
]

#: model_type -> family
ARCHITECTURES: dict[str, type[Architecture]] = {
    model_type: family for family in (Bert, Llama) for model_type in family.model_types
}


def architecture_of(checkpoint: Checkpoint, pooling: Pooling | None = None) -> Architecture:
    """The checked architecture of a checkpoint; raises a named error for anything that would not run exactly."""
    config: Mapping[str, Any] = checkpoint.config
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"{checkpoint.path}: model_type {model_type!r} is not supported, only {', '.join(sorted(ARCHITECTURES))}"
        )
    method = (config.get("quantization_config") or {}).get("quant_method")
    if method not in (None, "aerogel"):
        raise UnsupportedModelError(f"{checkpoint.path}: weights quantized by {method!r} are not supported")
    architecture = ARCHITECTURES[model_type](config, checkpoint.names(), pooling or checkpoint.pooling)
    architecture.check(checkpoint)
    return architecture

"""Writing a packed model: a folder with config.json, the tokenizer's files and model.safetensors.

`aerogel.checkpoint.packed.format` says what tensors hold a matrix parameter. Norms and biases are float32 under their own
names. The same model and recipe give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from aerogel.checkpoint.packed.format import (
    BITMASK,
    FORMAT_VERSION,
    GROUP,
    INDEX,
    INPUT_LIMIT,
    LEVELS,
    MULTIPLIER,
    OFFSET,
    PACKED,
    QUANT_METHOD,
    SCALE,
    SHAPE,
    VALUES,
    ZERO,
)
from aerogel.checkpoint.safetensors_writer import SafetensorsWriter
from aerogel.checkpoint.weight import Weight


def add_weight(writer: SafetensorsWriter, name: str, weight: Weight, limit: float | None = None) -> int:
    """Writes one matrix parameter; returns its bytes. `limit`: see `Checkpoint.input_limit`."""
    k = weight.shape[1]
    indices = weight.levels is not None
    suffix = (PACKED if weight.bits < 8 else INDEX) if indices else VALUES if weight.mask is not None else ""
    parts = {
        BITMASK: weight.mask,
        suffix: weight.values,
        SCALE: weight.scale,
        LEVELS: weight.levels,
        MULTIPLIER: weight.multiplier,
        ZERO: weight.zero,
        OFFSET: weight.offset,
        GROUP: np.array([weight.group], np.int64) if weight.group else None,
        INPUT_LIMIT: None if limit is None else np.array([limit], np.float32),
        # where the other shapes do not tell K
        SHAPE: np.array(weight.shape, np.int64) if k % 8 and (weight.mask is not None or suffix == PACKED) else None,
    }
    return sum(writer.add(name + suffix, part) for suffix, part in parts.items() if part is not None)


def packed_config(
    config: Mapping[str, Any], recipe: Mapping[str, Any], version: str, sources: Mapping[str, str], folded: bool = False
) -> dict[str, Any]:
    """The model's config with the entry that says how it was packed; `folded`: see `aerogel.architectures.is_folded`."""
    return {
        **config,
        "quantization_config": {
            "quant_method": QUANT_METHOD,
            "format_version": FORMAT_VERSION,
            "aerogel_version": version,
            "recipe": dict(recipe),
            "sources": dict(sources),
            **({"folded": True} if folded else {}),
        },
    }

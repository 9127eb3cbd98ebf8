"""The config of a model whose widths have changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aerogel.architectures import PER_LAYER, Architecture, Group
from aerogel.errors import UnsupportedModelError


def without_units(architecture: Architecture, config: Mapping[str, Any], kept: Mapping[Group, int]) -> dict[str, Any]:
    """The config after each group is left with so many units."""
    widths = widths_of(architecture)
    found = dict(config)
    for group, count in kept.items():
        for key, each in group.widths.items():
            gone = each * (group.count - count)
            if group.layer is None:
                found[architecture.config_names.get(key, key)] = group.count - gone
                continue
            for layer in architecture.layers_like(group.layer):
                widths[key][layer] -= gone
    return with_widths(architecture, found, widths)


def without_layers(architecture: Architecture, config: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """The config of the layers `kept`.

    Raises:
        UnsupportedModelError: layers share their tensors in groups, and the config says only how many there are.
    """
    if architecture.shares_layers and len(architecture.own_layers()) > 1:
        raise UnsupportedModelError(
            f"config: expected layers that are all one, or have tensors of their own, to remove some, got groups of them: "
            f"{len(architecture.own_layers())} of {architecture.layers} layers have tensors of their own"
        )
    widths = {key: [values[i] for i in kept] for key, values in widths_of(architecture).items()}
    found = {**config, architecture.config_names.get("num_hidden_layers", "num_hidden_layers"): len(kept)}
    found |= architecture.layer_settings(config, kept)
    return with_widths(architecture, found, widths)


def widths_of(architecture: Architecture) -> dict[str, list[int]]:
    """The widths that may differ between layers, by the keys of PER_LAYER."""
    return {
        "intermediate_size": list(architecture.ffn),
        "num_attention_heads": list(architecture.heads),
        "num_key_value_heads": list(architecture.kv_heads),
    }


def with_widths(
    architecture: Architecture, config: Mapping[str, Any], widths: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """The config with these widths: one number where all layers agree, else also the list."""
    found, names, head_dim = dict(config), architecture.config_names, architecture.head_dim
    found.pop("quantization_config", None)  # what is cut is no longer packed
    for key, values in widths.items():
        name, own = PER_LAYER[key], names.get(key, key)
        found.pop(name, None)
        implied = key == "num_key_value_heads" and list(values) == list(widths["num_attention_heads"])
        if implied and found.get(own) is None:
            continue  # as many as there are heads: what a config without the key means
        found[own] = max(values)
        if min(values) != max(values) or not max(values):
            found[name] = list(values)
    plain = PER_LAYER["num_attention_heads"] not in found
    hidden, heads = (found[names.get(key, key)] for key in ("hidden_size", "num_attention_heads"))
    if not plain or hidden != head_dim * heads:
        found["head_dim"] = head_dim
    return found

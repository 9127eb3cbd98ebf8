"""config.json of compressed-tensors: what is accepted, which modules a group means, every way to be wrong."""

from __future__ import annotations

from typing import Any

import pytest

from aerogel.checkpoint.compressed_tensors.config import (
    Compression,
    Group,
    WeightArgs,
    find_compression,
    parse_compression,
    without_compression,
)
from aerogel.checkpoint.compressed_tensors.targets import group_of, specificity
from aerogel.errors import AerogelError, ConfigError, UnsupportedModelError

from ..reference.compressed_tensors import compression


def weight_args(**args: Any) -> WeightArgs:
    [group] = parse_compression(compression(args), "config.json").groups
    assert group.weights is not None
    return group.weights


def test_found_under_both_keys_and_only_there() -> None:
    entry = compression({"num_bits": 8})
    assert find_compression({"quantization_config": entry}) is entry
    assert find_compression({"compression_config": entry}) is entry
    nested = {"quantization_config": {"format": "pack-quantized"}, "sparsity_config": {"format": "sparse-bitmask"}}
    found = find_compression({"compression_config": nested})
    assert found is not None and found["format"] == "pack-quantized"
    assert find_compression({"quantization_config": {"quant_method": "gptq"}}) is None
    assert find_compression({"quantization_config": None}) is None and find_compression({}) is None
    both = {"model_type": "bert", "quantization_config": entry, "compression_config": entry}
    assert without_compression(both) == {"model_type": "bert"}


def test_defaults_and_strategies() -> None:
    assert weight_args() == WeightArgs(8, False, True, "tensor")
    assert weight_args(group_size=-1) == WeightArgs(8, False, True, "channel")
    assert weight_args(group_size=64, num_bits=4, symmetric=False) == WeightArgs(4, False, False, "group", 64)
    assert weight_args(strategy="CHANNEL", type="FLOAT") == WeightArgs(8, True, True, "channel")
    for block in ("64x128", [64, 128]):
        assert weight_args(strategy="block", block_structure=block).block == (64, 128)
    orders = {None: False, False: False, True: True, "group": True, "dynamic": True, "weight": False, "static": False}
    for order, reordered in orders.items():
        assert weight_args(strategy="group", group_size=8, actorder=order).reordered == reordered


@pytest.mark.parametrize(
    ("version", "numbers"), [("0.9.4", (0, 9, 4)), ("0.9.5.a20250507", (0, 9, 5)), ("main", ()), (None, ()), (3, ())]
)
def test_versions(version: Any, numbers: tuple[int, ...]) -> None:
    assert parse_compression(compression(None, version=version), "config.json").version == numbers


def test_activations_and_kv_cache() -> None:
    group = {"targets": ["Linear"], "weights": None}
    inputs = {"a": None, "b": {"dynamic": True}, "c": {"dynamic": False}, "d": {}, "e": {"dynamic": "local"}}
    groups = {name: {**group, "input_activations": value} for name, value in inputs.items()}
    parsed = parse_compression(compression(None, config_groups=groups, kv_cache_scheme={"num_bits": 8}), "config.json")
    assert [g.activations for g in parsed.groups] == [None, "dynamic", "static", "static", "dynamic"]
    assert parsed.has_kv_cache_scheme and all(g.weights is None for g in parsed.groups)


def test_presets() -> None:
    names = ("W8A8", "int8", "W4A16", "W4A16_ASYM", "W3A16", "FP8", "FP8_DYNAMIC", "FP8_BLOCK", "UNQUANTIZED")
    groups = parse_compression(compression(None, config_groups={n: ["Linear"] for n in names}), "config.json").groups
    bits = [g.weights.bits if g.weights else None for g in groups]
    assert bits == [8, 8, 4, 4, 3, 8, 8, 8, None]
    assert [g.activations for g in groups] == ["dynamic"] * 2 + [None] * 3 + ["static"] + ["dynamic"] * 2 + [None]
    assert [bool(g.weights and g.weights.symmetric) for g in groups] == [True, True, True, False] + [True] * 4 + [False]


def test_the_more_specific_target_wins() -> None:
    def group(name: str, *targets: str) -> Group:
        return Group(name, targets, None, None)

    groups = (
        group("class", "Linear"),
        group("regex", r"re:model\.layers\.\d+\.mlp"),
        group("exact", "model.layers.0.mlp.up"),
    )
    found = Compression((), groups, ("lm_head", r"re:.*\.down$"), False)

    def name_of(module: str) -> str | None:
        match = group_of(module, found, "config.json")
        return match and match.name

    assert name_of("model.layers.0.mlp.up") == "exact"
    assert name_of("model.layers.1.mlp.up") == "regex"
    assert name_of("model.layers.1.attn.q") == "class"
    assert name_of("lm_head") is None and name_of("model.layers.0.mlp.down") is None
    assert name_of("model.embed_tokens") is None  # not a Linear
    assert specificity("model.embed_tokens", ["Embedding"], "") == 1
    assert specificity("a.layers.0", [r"re:layers"], "") == 0  # from the start only


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"format": "nvfp4-pack-quantized"}, UnsupportedModelError, "4-bit floats.*give the original model"),
        ({"format": "mxfp4-pack-quantized"}, UnsupportedModelError, "4-bit floats"),
        ({"format": "mxfp8-quantized"}, UnsupportedModelError, "microscaled"),
        ({"format": "marlin-24"}, UnsupportedModelError, "permuted for one GPU kernel"),
        ({"format": "zip"}, UnsupportedModelError, "format: expected one of dense, .*got 'zip'"),
        ({"transform_config": {"config_groups": {"a": {}}}}, UnsupportedModelError, "transform_config"),
        ({"config_groups": []}, ConfigError, "config_groups: expected an object"),
        ({"config_groups": {"a": 3}}, ConfigError, "config_groups: a: expected an object, got 3"),
        ({"config_groups": {"a": {"targets": "Linear"}}}, ConfigError, "targets: expected a list of strings"),
        ({"config_groups": {"a": {"format": "marlin-24"}}}, UnsupportedModelError, "a: format: 'marlin-24'"),
        ({"config_groups": {"NVFP4": ["Linear"]}}, UnsupportedModelError, "NVFP4: this preset is not known"),
        ({"config_groups": {"a": {"input_activations": {"dynamic": "x"}}}}, ConfigError, "dynamic: expected true"),
        ({"ignore": "lm_head"}, ConfigError, "ignore: expected a list of strings"),
        ({"ignore": [3]}, ConfigError, "ignore: expected a list of strings"),
    ],
)
def test_broken_configs(change: dict[str, Any], error: type[AerogelError], message: str) -> None:
    with pytest.raises(error, match="config.json: .*" + message):
        parse_compression(compression(None, **change), "config.json")


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ({"type": "complex"}, ConfigError, "type: expected 'int' or 'float'"),
        ({"type": None}, ConfigError, "type: expected"),
        ({"num_bits": 0}, ConfigError, "num_bits: expected a positive"),
        ({"num_bits": True}, ConfigError, "num_bits: expected a positive"),
        ({"num_bits": 16}, UnsupportedModelError, "got 16-bit ints"),
        ({"num_bits": 4, "type": "float"}, UnsupportedModelError, "got 4-bit floats"),
        ({"symmetric": 1}, ConfigError, "symmetric"),
        ({"group_size": -2}, ConfigError, "group_size: expected a whole number or -1"),
        ({"group_size": 1.5}, ConfigError, "group_size"),
        ({"strategy": "group"}, ConfigError, "group_size: expected a positive"),
        ({"strategy": "tensor_group", "group_size": 16}, UnsupportedModelError, "strategy: expected one of tensor"),
        ({"strategy": "token"}, UnsupportedModelError, "strategy"),
        ({"strategy": "block"}, ConfigError, "block_structure: expected"),
        ({"strategy": "block", "block_structure": "0x8"}, ConfigError, "block_structure"),
        ({"strategy": "block", "block_structure": [8]}, ConfigError, "block_structure"),
        ({"actorder": "random"}, ConfigError, "actorder"),
        ({"actorder": 1}, ConfigError, "actorder"),
        ({"actorder": []}, ConfigError, "actorder"),
    ],
)
def test_broken_weight_args(args: dict[str, Any], error: type[AerogelError], message: str) -> None:
    with pytest.raises(error, match="config.json: config_groups: group_0: weights: .*" + message):
        weight_args(**args)


def test_a_broken_expression() -> None:
    with pytest.raises(ConfigError, match=r"target 're:\(': expected a regular expression"):
        specificity("a", ["re:("], "config.json")

"""What config.json says about a compressed-tensors checkpoint, checked once.

    "quantization_config": {"quant_method": "compressed-tensors", "version": "0.9.4", "format": "pack-quantized",
                            "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, ...}}},
                            "ignore": ["lm_head"], "sparsity_config": {...}, ...}

Files of the versions 0.4 to 0.6 call it `compression_config`. Keys that say nothing about the weights are not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aerogel.errors import ConfigError, UnsupportedModelError

QUANT_METHOD = "compressed-tensors"
_KEYS = ("quantization_config", "compression_config")

_FORMATS = (
    "dense",
    "int-quantized",
    "naive-quantized",
    "float-quantized",
    "pack-quantized",
    "mixed-precision",  # each group says its own
    "sparse-bitmask",  # of old files: how weights are stored, not what their numbers are
    "sparse-24-bitmask",
)
_REFUSED = {
    "nvfp4-pack-quantized": "4-bit floats",
    "mxfp4-pack-quantized": "4-bit floats",
    "mxfp8-quantized": "microscaled 8-bit floats",
    "marlin-24": "permuted for one GPU kernel",
}
_REMEDY = "give the original model, or one saved as int-quantized, float-quantized or pack-quantized"
_STRATEGIES = ("tensor", "channel", "group", "block")
_ORDERS = {None: None, False: None, True: "group", "group": "group", "dynamic": "group", "weight": None, "static": None}


@dataclass(frozen=True)
class WeightArgs:
    """How the weights of a group are quantized.

    Attributes:
        bits: 1 to 8; 8 for floats.
        is_float: 8-bit floats rather than integers.
        symmetric: there are no zero points.
        strategy: "tensor", "channel", "group", "block"; None in a preset that leaves it to the shape of the scales.
        group_size: columns that share a scale, for "group".
        block: (rows, columns) that share one, for "block".
        reordered: columns were assigned to groups by importance: `weight_g_idx` says which.
    """

    bits: int
    is_float: bool
    symmetric: bool
    strategy: str | None
    group_size: int | None = None
    block: tuple[int, int] | None = None
    reordered: bool = False


@dataclass(frozen=True)
class Group:
    """Modules that are quantized alike. `targets`: see `aerogel.checkpoint.compressed_tensors.targets`.

    `activations` is "static" where the file carries scales for the layer's inputs, "dynamic", or None where those stay
    floats. `symmetric_inputs`: the inputs are symmetric int8, as the engine's are.
    """

    name: str
    targets: tuple[str, ...]
    weights: WeightArgs | None
    activations: str | None
    symmetric_inputs: bool = False


@dataclass(frozen=True)
class Compression:
    """`version` is empty where the file does not say; `has_kv_cache_scheme`: it wants a quantized KV cache."""

    version: tuple[int, ...]
    groups: tuple[Group, ...]
    ignore: tuple[str, ...]
    has_kv_cache_scheme: bool


def find_compression(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The entry of config.json that announces compressed-tensors, or None."""
    for key in _KEYS:
        entry = config.get(key)
        if not isinstance(entry, dict):
            continue
        inner = entry.get("quantization_config")  # the very first files nest it
        if key == "compression_config":
            return {**entry, **inner} if isinstance(inner, dict) else entry
        if entry.get("quant_method") == QUANT_METHOD:
            return entry
    return None


def without_compression(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the decoded model."""
    return {key: value for key, value in config.items() if key not in _KEYS}


def parse_compression(entry: Mapping[str, Any], where: str) -> Compression:
    """Checks the entry.

    Raises:
        ConfigError: a value has the wrong type or contradicts another.
        UnsupportedModelError: weights in a form that aerogel does not decode.
    """
    _format(entry.get("format"), f"{where}: format")
    if entry.get("transform_config"):
        raise UnsupportedModelError(
            f"{where}: transform_config: weights that are rotated while the model runs are not supported: {_REMEDY}"
        )
    groups = _object(entry.get("config_groups"), f"{where}: config_groups")
    return Compression(
        _version(entry.get("version")),
        tuple(_group(name, value, f"{where}: config_groups: {name}") for name, value in groups.items()),
        _strings(entry.get("ignore"), f"{where}: ignore"),
        entry.get("kv_cache_scheme") is not None,
    )


def _group(name: str, value: Any, where: str) -> Group:
    if isinstance(value, list):  # a preset's name and its targets
        weights, activations = _preset(name, where)
        return Group(name, _strings(value, where), weights, activations)
    value = _object(value, where)
    _format(value.get("format"), f"{where}: format")
    weights = value.get("weights")
    return Group(
        name,
        _strings(value.get("targets"), f"{where}: targets"),
        None if weights is None else _weight_args(_object(weights, f"{where}: weights"), f"{where}: weights"),
        _activations(value.get("input_activations"), f"{where}: input_activations"),
        _symmetric_int8(value.get("input_activations")),
    )


def _preset(name: str, where: str) -> tuple[WeightArgs | None, str | None]:
    name = name.upper()
    if name == "UNQUANTIZED":
        return None, None
    if name in ("FP8", "FP8_DYNAMIC", "FP8_BLOCK"):
        activations = "static" if name == "FP8" else "dynamic"
        strategy, block = {"FP8": ("tensor", None), "FP8_DYNAMIC": ("channel", None)}.get(name, ("block", (128, 128)))
        return WeightArgs(8, True, True, strategy, block=block), activations
    integers = re.fullmatch(r"W([2-8])A(?:FP)?(\d+)(_ASYM)?", "W8A8" if name == "INT8" else name)
    if integers is None:
        raise UnsupportedModelError(f"{where}: this preset is not known: {_REMEDY}")
    args = WeightArgs(int(integers[1]), False, integers[3] is None, None, group_size=128)
    return args, None if integers[2] == "16" else "dynamic"


def _weight_args(args: Mapping[str, Any], where: str) -> WeightArgs:
    kind = args.get("type", "int")
    if not isinstance(kind, str) or kind.lower() not in ("int", "float"):
        raise ConfigError(f"{where}: type: expected 'int' or 'float', got {kind!r:.80}")
    is_float = kind.lower() == "float"
    bits = args.get("num_bits", 8)
    if type(bits) is not int or bits < 1:
        raise ConfigError(f"{where}: num_bits: expected a positive whole number, got {bits!r:.80}")
    if bits > 8 or (is_float and bits != 8):
        raise UnsupportedModelError(
            f"{where}: num_bits: expected integers of 1 to 8 bits or floats of 8, got {bits}-bit {kind.lower()}s: {_REMEDY}"
        )
    symmetric = args.get("symmetric", True)
    if not isinstance(symmetric, bool):
        raise ConfigError(f"{where}: symmetric: expected true or false, got {symmetric!r:.80}")
    group_size = args.get("group_size")
    if group_size is not None and (type(group_size) is not int or group_size < -1):
        raise ConfigError(f"{where}: group_size: expected a whole number or -1, got {group_size!r:.80}")
    strategy = args.get("strategy")
    if strategy is None:
        strategy = {None: "tensor", 0: "tensor", -1: "channel"}.get(group_size, "group")
    if not isinstance(strategy, str) or strategy.lower() not in _STRATEGIES:
        raise UnsupportedModelError(
            f"{where}: strategy: expected one of {', '.join(_STRATEGIES)}, got {strategy!r:.80}: {_REMEDY}"
        )
    strategy = strategy.lower()
    if strategy == "group" and (group_size is None or group_size < 1):
        raise ConfigError(f"{where}: group_size: expected a positive whole number, got {group_size!r}")
    order = args.get("actorder")
    if isinstance(order, str):
        order = order.lower()
    if not isinstance(order, (str, bool, type(None))) or order not in _ORDERS:
        raise ConfigError(f"{where}: actorder: expected null, true, 'group' or 'weight', got {order!r:.80}")
    return WeightArgs(
        bits,
        is_float,
        symmetric,
        strategy,
        group_size if strategy == "group" else None,
        _block(args.get("block_structure"), f"{where}: block_structure") if strategy == "block" else None,
        _ORDERS[order] == "group",
    )


def _block(value: Any, where: str) -> tuple[int, int]:
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}x\d{1,9}", value):
        value = [int(size) for size in value.split("x")]
    if not isinstance(value, list) or len(value) != 2 or not all(type(size) is int and size > 0 for size in value):
        raise ConfigError(f"{where}: expected [rows, columns] or 'ROWSxCOLUMNS', got {value!r:.80}")
    return value[0], value[1]


def _activations(value: Any, where: str) -> str | None:
    if value is None:
        return None
    dynamic = _object(value, where).get("dynamic", False)
    if dynamic not in (True, False, None, "local"):
        raise ConfigError(f"{where}: dynamic: expected true, false or 'local', got {dynamic!r:.80}")
    return "dynamic" if dynamic else "static"


def _symmetric_int8(value: Any) -> bool:
    args = value if isinstance(value, dict) else {}
    return (args.get("num_bits"), args.get("type", "int"), args.get("symmetric", True)) == (8, "int", True)


def _format(value: Any, where: str) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise ConfigError(f"{where}: expected a word, got {value!r:.80}")
    if value in _FORMATS:
        return
    if value in _REFUSED:
        raise UnsupportedModelError(f"{where}: {value!r} ({_REFUSED[value]}) is not supported: {_REMEDY}")
    raise UnsupportedModelError(f"{where}: expected one of {', '.join(_FORMATS)}, got {value!r:.80}")


def _version(value: Any) -> tuple[int, ...]:
    # releases are 0.9.4, builds of every night 0.9.5.a20250507: the numbers in front decide
    numbers = re.match(r"\d{1,9}(\.\d{1,9})*", value) if isinstance(value, str) else None
    return tuple(int(number) for number in numbers[0].split(".")) if numbers else ()


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected an object, got {value!r:.80}")
    return value


def _strings(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ConfigError(f"{where}: expected a list of strings, got {value!r:.80}")
    return tuple(value)

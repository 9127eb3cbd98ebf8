"""config.json and its siblings: read, and checked once so that nothing after has to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aerogel._util.reading import read_bytes
from aerogel.architectures import family_of
from aerogel.errors import ConfigError

_INTEGERS = (
    "dim",
    "embedding_size",
    "head_dim",
    "hidden_dim",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "n_heads",
    "n_layers",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "type_vocab_size",
    "vocab_size",
)
#: Far above any model: what is made of these (a list of layers, rotary frequencies) is made before tensors are looked at.
_LARGEST = {"head_dim": 2**20, "hidden_size": 2**20, "num_hidden_layers": 1024, "n_layers": 1024, "dim": 2**20}
_NUMBERS = ("layer_norm_eps", "rms_norm_eps", "rope_theta")
#: A float holds it, and its square root and half are of use; integers of JSON have no end.
LARGEST_NUMBER = 1e300
_STRINGS = ("hidden_act", "position_embedding_type")
_BOOLEANS = ("attention_bias", "is_causal", "mlp_bias", "tie_word_embeddings", "use_sliding_window")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file, or ConfigError with the file's path."""
    value = _read(path)
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a JSON object, got {_kind(value)}")
    return value


def read_json_list(path: Path) -> list[Any]:
    """The JSON array in the file, or ConfigError with the file's path."""
    value = _read(path)
    if not isinstance(value, list):
        raise ConfigError(f"{path}: expected a JSON array, got {_kind(value)}")
    return value


def read_optional_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file, or an empty one if there is no such file."""
    return read_json(path) if path.exists() else {}


def write_json(path: Path, value: Any) -> None:
    """Writes the value, indented, with a line end."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json, its common entries checked.

    Raises:
        ConfigError: it is missing, is not a JSON object, or an entry has the wrong type or an impossible value.
    """
    path = folder / "config.json"
    if not path.exists():
        raise ConfigError(f"{folder}: expected a config.json beside the weights, found none")
    config = read_json(path)
    family = family_of(config)
    if family is not None:
        config = dict(family.text_of(config))
    check_config(config, path)
    return config


def check_config(config: dict[str, Any], where: object) -> None:
    """Checks the type of every common entry that is present and not null; `model_type` must be."""
    if not isinstance(config.get("model_type"), str):
        raise ConfigError(
            f"{where}: model_type: expected a string such as 'bert', got {_kind(config.get('model_type'))}"
        )
    for keys, accepts, expected in _CHECKS:
        for key in keys:
            value = config.get(key)
            if value is not None and not accepts(value):
                raise ConfigError(f"{where}: {key}: expected {expected}, got {value!r:.80}")
    for key, largest in _LARGEST.items():
        value = config.get(key)
        if value is not None and value > largest:
            raise ConfigError(f"{where}: {key}: expected at most {largest}, got {value}")
    ids = config.get("eos_token_id")
    if ids is not None and not all(type(i) is int and i >= 0 for i in (ids if isinstance(ids, list) else [ids])):
        raise ConfigError(f"{where}: eos_token_id: expected a token id or a list of them, got {ids!r:.80}")
    for key in ("bos_token_id", "pad_token_id"):
        value = config.get(key)
        # Some published configs say -1 for "none".
        if value is not None and type(value) is not int:
            raise ConfigError(f"{where}: {key}: expected a token id, got {value!r:.80}")


# JSON's true is a Python int: type() tells them apart.
_CHECKS: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (_INTEGERS, lambda v: type(v) is int and 0 <= v < 2**31, "a whole number"),
    (_NUMBERS, lambda v: type(v) in (int, float) and 0 < v < LARGEST_NUMBER, "a positive number"),
    (_STRINGS, lambda v: isinstance(v, str), "a string"),
    (_BOOLEANS, lambda v: isinstance(v, bool), "true or false"),
)


def _read(path: Path) -> Any:
    data = read_bytes("file", path, ConfigError)
    try:
        value = json.loads(data)
        if b"\\ud" in data.lower():  # JSON can spell half a character, which nothing can write again
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected JSON: {error}") from error


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__

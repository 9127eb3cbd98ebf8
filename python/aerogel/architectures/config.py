"""A model's `config.json`, read with checks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aerogel.errors import ConfigError, UnsupportedModelError

#: Widths that may differ from layer to layer: the key for all layers -> the key of the list with one entry a layer.
PER_LAYER: Mapping[str, str] = {
    "intermediate_size": "intermediate_sizes",
    "num_attention_heads": "attention_heads",
    "num_key_value_heads": "key_value_heads",
}


class Config:
    """A model's `config.json`, read with checks: every refusal names the key, what was expected and what was found."""

    def __init__(self, values: Mapping[str, Any], names: Mapping[str, str] | None = None) -> None:
        """`names`: what a family calls some of the keys otherwise."""
        self.values = values
        self._names = names or {}

    def name(self, key: str) -> str:
        """What the config calls the key."""
        return self._names.get(key, key)

    def integer(self, key: str, default: int | None = None, minimum: int = 1) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"config: {self.name(key)}: expected an integer, got {value!r}")
        if value < minimum:
            raise ConfigError(f"config: {self.name(key)}: expected at least {minimum}, got {value}")
        return value

    def per_layer(self, key: str, layers: int, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """A width of every layer: from the list under PER_LAYER[key] if there is one, else `key` for all of them.

        The list wins; `key` beside it has to be its largest entry. 0 is possible in a list only.
        """
        name, own = PER_LAYER[key], self.name(key)
        if self.values.get(name) is None:
            if self.values.get(own) is None and default is not None:
                return tuple(default)
            return (self.integer(key),) * layers
        values = self.values[name]
        if not isinstance(values, list) or not all(type(v) is int and v >= 0 for v in values):
            raise ConfigError(f"config: {name}: expected a list of whole numbers, got {values!r:.80}")
        if len(values) != layers:
            raise ConfigError(f"config: {name}: expected one entry for each of {layers} layers, got {len(values)}")
        if self.values.get(own) not in (None, max(values)):
            raise ConfigError(
                f"config: {own}: expected {max(values)}, the largest of {name}, got {self.values[own]!r:.80}"
            )
        return tuple(values)

    def head_dim(self, hidden_size: int, default: int | None = None) -> int:
        """The width of an attention head: `head_dim`, or `default`, or where all layers have the same heads what divides
        hidden_size.
        """
        if "head_dim" not in self.values and default is not None:
            return default
        if self.values.get(PER_LAYER["num_attention_heads"]) is not None or self.values.get("head_dim") is not None:
            return self.integer("head_dim")
        heads = self.integer("num_attention_heads")
        if hidden_size % heads:
            raise ConfigError(
                f"config: {self.name('hidden_size')} {hidden_size} is not a multiple of "
                f"{self.name('num_attention_heads')} {heads}"
            )
        return hidden_size // heads

    def number(self, key: str, default: float | None = None) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max:
            raise ConfigError(f"config: {self.name(key)}: expected a number that is not negative, got {value!r:.80}")
        return float(value)

    def architecture(self, default: str | None) -> str | None:
        """The first entry of `architectures`, the class that the checkpoint was saved from."""
        value = self.values.get("architectures")
        if not value:
            return default
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise ConfigError(f"config: architectures: expected a list of class names, got {value!r:.80}")
        return str(value[0])

    def boolean(self, key: str, default: bool) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise ConfigError(f"config: {self.name(key)}: expected true or false, got {value!r}")
        return value

    def choice(self, key: str, choices: Mapping[str, str] | Iterable[str], default: str | None = None) -> str:
        """A word out of `choices`; a mapping translates it."""
        value = self._get(key, default)
        known = list(choices)
        if not isinstance(value, str) or value not in known:
            raise UnsupportedModelError(
                f"config: {self.name(key)}: {value!r} is not supported, only {', '.join(known)}"
            )
        return choices[value] if isinstance(choices, Mapping) else value

    def only(self, key: str, *allowed: Any) -> None:
        """Refuses a feature that the engine does not run: absent, null or one of `allowed` is accepted."""
        value = self.values.get(key)
        if value is not None and value not in allowed:
            raise UnsupportedModelError(f"config: {key}: {value!r} is not supported")

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(self.name(key))
        if value is None:
            if default is None:
                raise ConfigError(f"config: {self.name(key)} is missing")
            return default
        return value


def is_folded(config: Mapping[str, Any]) -> bool:
    """Whether a packed model's config says that scales of outlier channels were moved into its weights."""
    quantization = config.get("quantization_config")
    return isinstance(quantization, Mapping) and quantization.get("folded") is True

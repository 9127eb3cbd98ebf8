"""Which layers see a window of the text only: what a config says of it, read with checks."""

from __future__ import annotations

from collections.abc import Sequence

from aerogel.architectures.config import Config
from aerogel.errors import ConfigError, UnsupportedModelError

#: layer_types -> whether the layer has a window.
KINDS = {"full_attention": False, "sliding_attention": True}

#: Of each layer: how many positions away a token still sees another one, None: all of them.
Windows = tuple[int | None, ...]


def layer_kinds(c: Config, layers: int) -> list[str] | None:
    """`layer_types`, a word a layer, or None where the config has none.

    Raises:
        ConfigError: it is no list of so many words.
        UnsupportedModelError: a word is none of KINDS.
    """
    kinds = c.values.get("layer_types")
    if kinds is None or kinds == []:
        return None
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise ConfigError(f"config: layer_types: expected a list of words, got {kinds!r:.80}")
    if set(kinds) - set(KINDS):
        raise UnsupportedModelError(
            f"config: layer_types: {', '.join(sorted(set(kinds)))}: only {' and '.join(KINDS)} are supported"
        )
    if len(kinds) != layers:
        raise ConfigError(f"config: layer_types: expected one word for each of {layers} layers, got {len(kinds)}")
    return kinds


def no_windows(c: Config, layers: int) -> Windows:
    """The windows of a family that has none.

    Raises:
        UnsupportedModelError: the config asks for some: Transformers would pass over it.
    """
    asked = c.values.get("sliding_window") is not None and c.boolean("use_sliding_window", True)
    if asked or "sliding_attention" in (layer_kinds(c, layers) or ()):
        key = "sliding_window" if asked else "layer_types"
        raise UnsupportedModelError(
            f"config: {key}: {c.values[key]!r:.80}: only full_attention is supported, as the family has no windows"
        )
    return (None,) * layers


def windows(c: Config, layers: int, windowed: Sequence[bool], used: bool = True, default: int | None = None) -> Windows:
    """The windows of a model's layers.

    Args:
        c: the config. Its `sliding_window` counts the token itself; null: no layer has one.
        layers: how many there are.
        windowed: of each layer: whether it has the window, where `layer_types` does not say it.
        used: False: no layer has a window, whatever `sliding_window` says.
        default: `sliding_window` where the config does not have it.

    Returns:
        A distance for each layer, for `Program.attention`; None: it sees all.

    Raises:
        ConfigError: a setting is impossible.
        UnsupportedModelError: a kind of layer is unknown.
    """
    kinds = layer_kinds(c, layers)
    flags = list(windowed) if kinds is None else [KINDS[kind] for kind in kinds]
    if not used or not any(flags) or c.values.get("sliding_window", default) is None:
        return (None,) * layers
    distance = c.integer("sliding_window", default) - 1
    return tuple(distance if flag else None for flag in flags)

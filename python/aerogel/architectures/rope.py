"""Rotary position embeddings: what a config says of them, read with checks.

Two kinds look at how long a sequence is: `dynamic` and `longrope` turn the tokens of a call by the length that their
sequence has after it. As in Transformers, keys that are in the KV cache already stay as they were turned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from aerogel._core import Rotary
from aerogel.architectures.config import Config
from aerogel.architectures.rope_kinds import KINDS, Given
from aerogel.errors import ConfigError, UnsupportedModelError

#: What stands beside the settings of every kind: read, or without effect on text, where all of M-RoPE's positions are one.
_COMMON = ("rope_type", "type", "rope_theta", "partial_rotary_factor", "mrope_section", "mrope_interleaved")
#: Where null is not as good as nothing.
_NULLS = ("factor", "truncate")
_LARGEST = float(np.finfo(np.float32).max)


def of_layers(config: Config, kind: str) -> Config:
    """The config for `rotary` of the layers of one kind, where `rope_parameters` has an object a kind of layer."""
    values = config.values.get("rope_parameters")
    if not isinstance(values, Mapping) or not any(isinstance(value, Mapping) for value in values.values()):
        return config
    # What stands at the top is for all kinds, and only where the kind itself is silent.
    own = values.get(kind) or {}
    top = {key: value for key, value in config.values.items() if not (isinstance(own, Mapping) and key in own)}
    return Config({**top, "rope_parameters": own})


def rotary(config: Config, head_dim: int, partial: bool = False, theta: float = 10000.0, part: float = 1.0) -> Rotary:
    """How the heads of a model turn.

    Args:
        config: the model's.
        head_dim: the width of a head.
        partial: whether the family can turn a part of a head only (partial_rotary_factor).
        theta: where the config has no rope_theta.
        part: where the config has no partial_rotary_factor.

    Returns:
        What `Program.rope` takes. Its `positions` are max_position_embeddings, or where a model is stretched from there
        or from its original length (linear, dynamic, yarn), as far as it is stretched.

    Raises:
        ConfigError: a setting is missing, impossible, unknown or contradicts another.
        UnsupportedModelError: the kind is unknown, or the family cannot do it.
    """
    settings, kind = _settings(config)
    if kind not in KINDS:
        raise UnsupportedModelError(
            f"config: rope_scaling: type {kind!r:.80} is not supported, only {', '.join(sorted(KINDS))}"
        )
    make, own = KINDS[kind]
    unknown = sorted({key for key, value in settings.values.items() if value is not None} - {*_COMMON, *own})
    if unknown:
        raise ConfigError(
            f"config: rope_scaling: {unknown[0]!r:.80} is not known for type {kind!r}, expected "
            + (", ".join(own) or "nothing more")
        )
    given = _given(config, settings, kind, head_dim, partial, theta, part)
    _check_sections(settings, given.pairs)
    # What overflows or is not a number is refused below, whichever setting it comes from.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        turns = make(given)
    for frequencies in (turns.frequencies, turns.beyond):
        if frequencies is not None and not np.all(np.isfinite(frequencies)):
            raise ConfigError(
                f"config: rope_scaling: expected finite frequencies, got others from {settings.values!r:.200}"
            )
    if not 0 < turns.scale <= _LARGEST:
        raise ConfigError(f"config: rope_scaling: expected a finite attention factor, got {turns.scale}")
    return Rotary(turns.frequencies, turns.reach, turns.scale, given.original, turns.beyond, turns.growth)


def _settings(config: Config) -> tuple[Config, str]:
    """The settings and their kind. Newer configs hold all in rope_parameters, older ones in rope_theta and rope_scaling."""
    found: dict[str, Any] = {}
    for name in ("rope_parameters", "rope_scaling"):
        values = config.values.get(name) or {}
        if not isinstance(values, Mapping):
            raise ConfigError(f"config: {name}: expected an object, got {values!r:.80}")
        for key, value in values.items():
            if found.get(key) not in (None, value):
                raise ConfigError(
                    f"config: {name}: expected {key} {found[key]!r:.80} as in rope_parameters, got {value!r:.80}"
                )
            found[key] = value
    kinds = [found[key] for key in ("rope_type", "type") if found.get(key) is not None] or ["default"]
    if kinds[-1] != kinds[0]:
        raise ConfigError(f"config: rope_scaling: expected type {kinds[0]!r:.80} as rope_type, got {kinds[-1]!r:.80}")
    if not isinstance(kinds[0], str):
        raise UnsupportedModelError(
            f"config: rope_scaling: type {kinds[0]!r:.80} is not supported, only {', '.join(sorted(KINDS))}"
        )
    for key, value in found.items():
        if type(value) in (int, float) and not abs(value) <= _LARGEST:
            raise ConfigError(
                f"config: rope_scaling: {key}: expected a number that float32 can hold, got {value!r:.80}"
            )
    return Config({key: value for key, value in found.items() if value is not None or key in _NULLS}), kinds[0]


def _given(
    config: Config, settings: Config, kind: str, head_dim: int, partial: bool, theta: float, part: float
) -> Given:
    theta = _one_of(config, settings, "rope_theta", theta, Config.number)
    if not 0 < theta <= _LARGEST:
        raise ConfigError(f"config: rope_theta: expected a positive number that float32 can hold, got {theta!r}")
    part = _one_of(config, settings, "partial_rotary_factor", part, Config.number)
    if part != 1 and kind != "proportional":
        if not partial:
            raise UnsupportedModelError(f"config: partial_rotary_factor: {part} is not supported")
        if part > 1 or int(head_dim * part) < 2:
            raise ConfigError(f"config: partial_rotary_factor: expected a part of {head_dim} columns, got {part}")
    width = head_dim if kind == "proportional" else int(head_dim * part)
    if width % 2:
        raise ConfigError(
            f"config: head_dim {head_dim}: {width} columns turn, which is odd: rotary embeddings need pairs"
        )
    positions = config.integer("max_position_embeddings")
    original = _one_of(config, settings, "original_max_position_embeddings", positions, Config.integer)
    for key, value in (("max_position_embeddings", positions), ("original_max_position_embeddings", original)):
        if value >= 2**31:
            raise ConfigError(f"config: {key}: expected at most {2**31 - 1}, got {value!r:.80}")
    return Given(settings, theta, part, width // 2, head_dim, positions, original)


def _one_of(config: Config, settings: Config, key: str, default: Any, read: Callable[..., Any]) -> Any:
    """A setting that may stand beside the others or at the top of the config."""
    inside, outside = (None if c.values.get(key) is None else read(c, key) for c in (settings, config))
    if inside is not None and outside is not None and inside != outside:
        raise ConfigError(
            f"config: rope_scaling: {key}: expected {outside!r} as at the top of the config, got {inside!r}"
        )
    return inside if inside is not None else outside if outside is not None else default


def _check_sections(settings: Config, pairs: int) -> None:
    sections = settings.values.get("mrope_section")
    if sections is None:
        return
    if not isinstance(sections, list) or not all(type(n) is int and n >= 0 for n in sections) or sum(sections) != pairs:
        raise ConfigError(
            f"config: rope_scaling: mrope_section: expected whole numbers that sum to {pairs}, got {sections!r:.80}"
        )

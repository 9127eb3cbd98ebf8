"""The kinds of rotary position embeddings that Transformers has: what settings a kind has, and its frequencies.

default (arXiv 2104.09864), linear (kaiokendev), dynamic (NTK, bloc97 and emozilla), yarn (arXiv 2309.00071), longrope (arXiv
2402.13753), llama3 (Llama 3.1) and proportional.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from aerogel.architectures.config import Config
from aerogel.errors import ConfigError

log = logging.getLogger("aerogel")


@dataclass(frozen=True)
class Given:
    """The settings of a model, whatever their place in its config."""

    settings: Config
    theta: float
    part: float  # of a head's columns that turn
    pairs: int  # as many columns, two by two
    head_dim: int
    positions: int  # max_position_embeddings
    original: int  # the length that the model was made for before it was stretched

    def factor(self) -> float:
        value = self.settings.number("factor")
        if value < 1:
            raise ConfigError(f"config: rope_scaling: factor: expected at least 1, got {value}")
        return value

    def plain(self) -> np.ndarray:
        """The frequencies of a model that is not stretched, float32 [pairs]."""
        frequencies: np.ndarray = 1 / self.periods()
        return frequencies

    def periods(self) -> np.ndarray:
        """theta^(2i / d), float32 [pairs]."""
        exponents = np.arange(0, 2 * self.pairs, 2, dtype=np.float32) / np.float32(2 * self.pairs)
        # The power in double, rounded to float32: a float32 power has other last bits on other machines.
        periods: np.ndarray = (np.float64(np.float32(self.theta)) ** exponents.astype(np.float64)).astype(np.float32)
        return periods


@dataclass(frozen=True)
class Turns:
    """What a kind comes down to, in the words of `Rotary`."""

    frequencies: np.ndarray  # float32 [pairs]
    reach: int  # no sequence is longer
    scale: float = 1.0
    beyond: np.ndarray | None = None
    growth: tuple[float, float] | None = None


def _default(g: Given) -> Turns:
    return Turns(g.plain(), g.positions)


def _linear(g: Given) -> Turns:
    factor = _positive(g.settings, "factor")
    return Turns(g.plain() / np.float32(factor), _stretched(g.positions, factor, g.positions))


def _proportional(g: Given) -> Turns:
    """A part of the pairs turns, as fast as if all did; the others stand still."""
    if g.part > 1:
        raise ConfigError(f"config: rope_scaling: partial_rotary_factor: expected at most 1, got {g.part}")
    factor = _positive(g.settings, "factor", 1.0)
    frequencies = g.plain() / np.float32(factor)
    frequencies[int(g.part * g.head_dim // 2) :] = 0
    return Turns(frequencies, _stretched(g.positions, factor, g.positions))


def _dynamic(g: Given) -> Turns:
    """Up to max_position_embeddings as the default; beyond, a base that grows with the sequence."""
    if g.original != g.positions:  # Transformers reads one, others the other
        raise ConfigError(
            f"config: rope_scaling: original_max_position_embeddings: expected {g.positions} as"
            f" max_position_embeddings for type 'dynamic', got {g.original}"
        )
    if g.pairs < 2:
        raise ConfigError("config: rope_scaling: type 'dynamic' needs heads of at least 4 columns that turn")
    factor = g.factor()
    return Turns(g.plain(), _stretched(g.positions, factor, g.positions), growth=(g.theta, factor))


def _yarn(g: Given) -> Turns:
    """High frequencies as they were, low ones slowed by `factor`, those between blended."""
    s = g.settings
    factor = _factor_of_lengths(g)
    if g.theta <= 1:
        raise ConfigError(f"config: rope_theta: expected more than 1 for type 'yarn', got {g.theta}")
    fast = _positive(s, "beta_fast", 32.0)
    slow = _positive(s, "beta_slow", 1.0)
    if fast < slow:
        raise ConfigError(f"config: rope_scaling: beta_fast {fast} is below beta_slow {slow}")

    def pair_that_turns(times: float) -> float:
        """Where in the head the pair is that turns so many times within the original length."""
        return g.pairs * math.log(g.original / (times * 2 * math.pi)) / math.log(g.theta)

    low, high = pair_that_turns(fast), pair_that_turns(slow)
    if s.boolean("truncate", "truncate" not in s.values):  # null is false
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * g.pairs - 1)
    if low == high:
        high += 0.001
    kept = 1 - np.clip((np.arange(g.pairs, dtype=np.float32) - low) / np.float32(high - low), 0, 1).astype(np.float32)
    periods = g.periods()
    frequencies = 1 / (np.float32(factor) * periods) * (1 - kept) + 1 / periods * kept
    return Turns(frequencies, _stretched(g.original, factor, g.positions), _yarn_scale(s, factor))


def _yarn_scale(s: Config, factor: float) -> float:
    if s.values.get("attention_factor") is not None:
        return _positive(s, "attention_factor")
    above, below = s.number("mscale", 0.0), s.number("mscale_all_dim", 0.0)
    # Only both together are looked at.
    return yarn_mscale(factor, above) / yarn_mscale(factor, below) if above and below else yarn_mscale(factor)


def yarn_mscale(factor: float, weight: float = 1.0) -> float:
    """By how much YaRN enlarges cos and sin of a model that is stretched by `factor`."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _longrope(g: Given) -> Turns:
    """Each pair slowed by a factor of its own: one list up to the original length, another one beyond."""
    s = g.settings
    short, long = (_factors(s, key, g.pairs) for key in ("short_factor", "long_factor"))
    if s.values.get("attention_factor") is not None:
        scale = _positive(s, "attention_factor")
    else:
        factor = _factor_of_lengths(g, g.positions / g.original)
        if factor > 1 and g.original < 2:
            raise ConfigError("config: rope_scaling: original_max_position_embeddings: expected at least 2, got 1")
        scale = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(g.original))
    periods = g.periods()
    return Turns(1 / (short * periods), g.positions, scale, beyond=1 / (long * periods))


def _llama3(g: Given) -> Turns:
    """Long wavelengths are slowed by `factor`, short ones left alone, those between blended."""
    factor = g.factor()
    low, high = (_positive(g.settings, key) for key in ("low_freq_factor", "high_freq_factor"))
    if high <= low:
        raise ConfigError(f"config: rope_scaling: high_freq_factor {high} is not above low_freq_factor {low}")
    frequencies = g.plain()
    wavelength = 2 * math.pi / frequencies
    blend = np.clip((g.original / wavelength - low) / (high - low), 0, 1)  # 0: slowed, 1: left alone
    blended = (1 - blend) * frequencies / factor + blend * frequencies
    return Turns(blended.astype(np.float32), g.positions)


#: How a kind is computed, and the settings that are its own.
KINDS: Mapping[str, tuple[Callable[[Given], Turns], tuple[str, ...]]] = {
    "default": (_default, ()),
    "linear": (_linear, ("factor",)),
    "dynamic": (_dynamic, ("factor", "original_max_position_embeddings")),
    "yarn": (
        _yarn,
        (
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
            "finetuned",  # a note
        ),
    ),
    "longrope": (
        _longrope,
        ("short_factor", "long_factor", "factor", "original_max_position_embeddings", "attention_factor"),
    ),
    "llama3": (_llama3, ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")),
    "proportional": (_proportional, ("factor",)),
}


def _factor_of_lengths(g: Given, default: float | None = None) -> float:
    """`factor`, or where it is null what max_position_embeddings stretches the original length by."""
    lengths = g.positions / g.original
    if g.settings.values.get("factor") is None and (default is not None or "factor" in g.settings.values):
        return lengths
    factor = g.factor()
    if lengths not in (1, factor):
        log.info(
            "config: rope_scaling: factor %s is used, which is not max_position_embeddings %d / the original %d",
            factor,
            g.positions,
            g.original,
        )
    return factor


def _factors(s: Config, key: str, count: int) -> np.ndarray:
    values = s.values.get(key)
    if not isinstance(values, list) or not all(type(v) in (int, float) and 0 < v < 1e30 for v in values):
        raise ConfigError(f"config: rope_scaling: {key}: expected a list of positive numbers, got {values!r:.80}")
    if len(values) != count:
        raise ConfigError(f"config: rope_scaling: {key}: expected {count} numbers, one a pair, got {len(values)}")
    return np.array(values, np.float32)


def _stretched(length: int, factor: float, positions: int) -> int:
    """The longest sequence of a model that is stretched, in positions that an int32 can count."""
    return min(max(positions, int(min(length * factor, 2**31 - 1))), 2**31 - 1)


def _positive(s: Config, key: str, default: float | None = None) -> float:
    value = s.number(key, default)
    if value <= 0:
        raise ConfigError(f"config: rope_scaling: {key}: expected a positive number, got {value}")
    return value

"""The rotary settings of a GGUF file, as llama.cpp treats them, in the words of a config."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aerogel.architectures.files import GGUFSource
from aerogel.architectures.rope_kinds import yarn_mscale
from aerogel.errors import ConfigError, UnsupportedModelError

#: Tensors that are used up here, where the file has them.
ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
#: Metadata below `<architecture>.rope.` that is read here, or has no effect: `finetuned` is a note.
_KNOWN = {
    "dimension_count",
    "freq_base",
    "scale_linear",
    "scaling.type",
    "scaling.factor",
    "scaling.attn_factor",
    "scaling.original_context_length",
    "scaling.finetuned",
    "scaling.yarn_log_multiplier",
    "scaling.yarn_ext_factor",
    "scaling.yarn_attn_factor",
    "scaling.yarn_beta_fast",
    "scaling.yarn_beta_slow",
}


class _Metadata:
    """What stands below `<architecture>.rope.`."""

    def __init__(self, file: GGUFSource, config: dict[str, Any]) -> None:
        self.file = file
        self.prefix = f"{file.metadata['general.architecture']}.rope."
        keys = (key.removeprefix(self.prefix) for key in file.metadata if key.startswith(self.prefix))
        # The theta of layers with a window is a key of the families that have one.
        known = _KNOWN | ({"freq_base_swa"} if "rope_local_base_freq" in config else set())
        unknown = sorted(set(keys) - known)
        if unknown:
            raise UnsupportedModelError(f"{file.path}: {self.prefix}{unknown[0]}: not known, so it cannot be heeded")

    def get(self, key: str, default: Any = None) -> Any:
        return self.file.metadata.get(self.prefix + key, default)

    def number(self, key: str, default: float) -> float:
        value = self.get(key, default)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ConfigError(f"{self.file.path}: {self.prefix}{key}: expected a number, got {value!r:.80}")
        return float(value)

    def only(self, key: str, default: float, *allowed: float) -> None:
        value = self.number(key, default)
        if not any(math.isclose(value, one, rel_tol=1e-5) for one in allowed):
            raise UnsupportedModelError(
                f"{self.file.path}: {self.prefix}{key}: expected {' or '.join(f'{one:g}' for one in allowed)}, got {value:g}"
            )


def add_rope_scaling(file: GGUFSource, config: dict[str, Any], partial: bool = False) -> None:
    """Gives the config the `rope_scaling` that the file has, if any; `head_dim`, `rope_theta` and
    `max_position_embeddings` have to be there.

    Args:
        file: the file.
        config: what it becomes.
        partial: whether a part of a head may turn, and factors without a type are longrope's, as in Phi-3's files.

    Raises:
        ConfigError: a number is impossible.
        UnsupportedModelError: what the file asks for cannot be done.
    """
    m = _Metadata(file, config)
    rotated = m.get("dimension_count", config["head_dim"])
    if partial and type(rotated) is int and 1 < rotated < config["head_dim"]:
        # Rounded up: as many columns turn as there are whole ones in the part.
        config["partial_rotary_factor"] = math.nextafter(rotated / config["head_dim"], 1.0)
    elif rotated != config["head_dim"]:
        raise UnsupportedModelError(
            f"{file.path}: expected rotary embeddings over all {config['head_dim']} dimensions of a head,"
            f" got {rotated!r:.80}"
        )
    # As llama.cpp: a factor without a type scales linearly, 0 means 1, and older files have another key for it.
    factor = m.get("scaling.factor", m.get("scale_linear"))
    has_factors = not file.tensors.keys().isdisjoint(ROPE_TENSORS[1:])
    unsaid = "longrope" if partial and has_factors else "none" if factor is None else "linear"
    kind = m.get("scaling.type", unsaid)
    if factor is None or (type(factor) is float and factor == 0.0):
        factor = 1.0
    if kind == "yarn":
        scaling = _yarn(m, factor, config)
    elif kind == "longrope":
        scaling = _longrope(m, factor, config, rotated // 2)
    else:
        m.only("scaling.attn_factor", 1.0, 1.0)
        if kind == "none" or (kind == "linear" and factor == 1.0 and type(factor) is float):
            scaling = {}
        else:
            scaling = {"rope_type": kind, "factor": factor}
    if kind != "yarn":
        m.only("scaling.yarn_ext_factor", 0.0, 0.0, -1.0)  # below 0: what the type says
    if "rope_freqs.weight" in file.tensors:
        if scaling:
            raise UnsupportedModelError(
                f"{file.path}: {m.prefix}scaling: expected none beside rope_freqs.weight, got {kind!r:.80}"
            )
        scaling = _llama3(file, config)
    if kind != "longrope" and has_factors:
        raise UnsupportedModelError(
            f"{file.path}: {m.prefix}scaling.type: expected longrope beside rope_factors_long.weight, got {kind!r:.80}"
        )
    if scaling:
        config["rope_scaling"] = scaling


def _original(m: _Metadata, config: dict[str, Any]) -> Any:
    return m.get("scaling.original_context_length") or config["max_position_embeddings"]


def _yarn(m: _Metadata, factor: Any, config: dict[str, Any]) -> dict[str, Any]:
    m.only("scaling.yarn_ext_factor", 1.0, 1.0, -1.0)
    weight = m.number("scaling.yarn_log_multiplier", 0.0)
    stretch = m.number("scaling.factor", 1.0) if m.get("scaling.factor") is not None else m.number("scale_linear", 1.0)
    scale = yarn_mscale(stretch) / (yarn_mscale(stretch, weight) if weight else 1.0)
    # llama.cpp computes this one itself, whatever the file says.
    m.only("scaling.yarn_attn_factor", 1.0, 1.0, scale)
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": _original(m, config),
        "beta_fast": m.get("scaling.yarn_beta_fast", 32.0),
        "beta_slow": m.get("scaling.yarn_beta_slow", 1.0),
        "attention_factor": scale * m.number("scaling.attn_factor", 1.0),
    }


def _longrope(m: _Metadata, factor: Any, config: dict[str, Any], pairs: int) -> dict[str, Any]:
    """The factors of llama.cpp's two tensors; `factor` slows all pairs alike, on top of them."""
    scaling: dict[str, Any] = {
        "rope_type": "longrope",
        "original_max_position_embeddings": _original(m, config),
        "attention_factor": m.number("scaling.attn_factor", 1.0),
    }
    if type(factor) not in (int, float) or not 0 < factor < math.inf:
        raise ConfigError(f"{m.file.path}: {m.prefix}scaling.factor: expected a positive number, got {factor!r:.80}")
    for key, name in (("short_factor", "rope_factors_short.weight"), ("long_factor", "rope_factors_long.weight")):
        if name not in m.file.tensors:
            raise UnsupportedModelError(
                f"{m.file.path}: expected {name} beside {m.prefix}scaling.type longrope, found none"
            )
        factors = m.file.float32(name)
        if factors.shape != (pairs,):
            raise ConfigError(f"{m.file.path}: {name}: expected [{pairs}], got {list(factors.shape)}")
        scaling[key] = [float(x) * factor for x in factors]
    return scaling


def _llama3(file: GGUFSource, config: dict[str, Any]) -> dict[str, Any]:
    """The rope_scaling of Llama 3.1 and later, recovered from the factors by which GGUF stores its result."""
    factors = file.float32("rope_freqs.weight").astype(np.float64)
    half = config["head_dim"] // 2
    if factors.shape != (half,) or not np.all(np.isfinite(factors) & (factors > 0)):
        raise _other_factors(file)
    scaling = {
        "rope_type": "llama3",
        "factor": float(factors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    wavelength = 2 * math.pi * config["rope_theta"] ** (np.arange(half) / half)
    smooth = np.clip((8192 / wavelength - 1.0) / (4.0 - 1.0), 0.0, 1.0)
    expected = 1.0 / ((1.0 - smooth) / scaling["factor"] + smooth)
    if not np.allclose(factors, expected, rtol=1e-3):
        raise _other_factors(file)
    return scaling


def _other_factors(file: GGUFSource) -> UnsupportedModelError:
    return UnsupportedModelError(f"{file.path}: rope_freqs.weight: expected the factors of Llama 3, got others")

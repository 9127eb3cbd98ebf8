"""EXAONE 4 (arXiv 2507.11407): norms behind the blocks, and of each head. In the big ones most layers have windows, and only
those turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import QK_NORMS, decoder_names
from aerogel.architectures.decoder_settings import DECODER, WINDOWS
from aerogel.architectures.details import Details, gate_kind
from aerogel.architectures.files import GGUFSource
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Settings
from aerogel.architectures.windows import layer_kinds, windows
from aerogel.errors import ConfigError

_PATTERN = "exaone4.attention.sliding_window_pattern"


def _finish_gguf(file: GGUFSource, config: dict[str, Any]) -> None:
    """Whether each layer has the window, where any has."""
    pattern = file.metadata.get(_PATTERN)
    if pattern is None and config.get("sliding_window"):
        raise ConfigError(
            f"{file.path}: {_PATTERN}: expected true or false for each layer, as some have a window, got none"
        )
    if isinstance(pattern, list):
        config["layer_types"] = ["sliding_attention" if windowed else "full_attention" for windowed in pattern]
    config.setdefault("sliding_window", None)


class Exaone4(Decoder):
    """OLMo 2's norms behind the blocks, Qwen3's of queries and keys."""

    model_types: ClassVar = ("exaone4",)
    saved: ClassVar = {"exaone4": saved_names("Exaone4Model")}
    settings: ClassVar = (
        DECODER
        | WINDOWS
        | Settings(
            "config.json",
            used={"sliding_window_pattern": "every so manieth layer has no window, where layer_types does not say it"},
        )
    )
    default_eps: ClassVar = 1e-5
    gguf: ClassVar = {
        "exaone4": decoder_names(
            "exaone4",
            "Exaone4ForCausalLM",
            {
                "post_attention_norm": "post_attention_layernorm",
                "post_ffw_norm": "post_feedforward_layernorm",
                **QK_NORMS,
            },
            keys={"sliding_window": "attention.sliding_window", "layer_types": "attention.sliding_window_pattern"},
            factors=True,
            finish=_finish_gguf,
        )
    }

    def details_of(self, c: Config) -> Details:
        kinds = _kinds(c, self.layers)
        turning = rotary(c, self.head_dim)
        everywhere = c.values.get("sliding_window", 4096) is None  # then all layers turn
        return Details(
            rotaries=tuple(turning if everywhere or kind == "sliding_attention" else None for kind in kinds),
            windows=windows(c, self.layers, [kind == "sliding_attention" for kind in kinds], default=4096),
            attention_norms=(None, "post_attention_layernorm"),
            ffn_norms=(None, "post_feedforward_layernorm"),
            qk_norm="head",
            gate=gate_kind(c),
            causal=c.boolean("is_causal", True),
        )

    def layer_settings(self, config: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
        # Also where no layer that is left has a window: the word says whether it turns.
        kinds = _kinds(Config(config), self.layers)
        return {"layer_types": [kinds[i] for i in kept]}


def _kinds(c: Config, layers: int) -> list[str]:
    found = layer_kinds(c, layers)
    if found is not None:
        return found
    if c.values.get("sliding_window", 4096) is None:
        return ["full_attention"] * layers
    pattern = c.values.get("sliding_window_pattern", 4)
    if isinstance(pattern, str) and pattern and set(pattern) <= {"L", "G"}:
        raise ConfigError(
            f"config: layer_types: expected a word for each layer beside sliding_window_pattern {pattern!r:.80}"
        )
    every = c.integer("sliding_window_pattern", 4)
    return ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)]

"""Phi-3 (arXiv 2404.14219) and Phi-4-mini: Llama whose files store queries, keys and values as one, and gate and up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import decoder_names
from aerogel.architectures.decoder_settings import DECODER, WINDOWS
from aerogel.architectures.details import Details, gate_kind
from aerogel.architectures.files import GGUFSource
from aerogel.architectures.fused import Fused, query_key_value
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Refused, Settings
from aerogel.architectures.windows import windows

_FUSED = (
    Fused(
        "layers.{n}.self_attn.qkv_proj",
        tuple(f"layers.{{n}}.self_attn.{part}_proj" for part in "qkv"),
        query_key_value,
    ),
    Fused("layers.{n}.mlp.gate_up_proj", tuple(f"layers.{{n}}.mlp.{part}_proj" for part in ("gate", "up"))),
)
_ROPES = ("rope_parameters", "rope_scaling")


def _finish_gguf(file: GGUFSource, config: dict[str, Any]) -> None:
    if config.get("sliding_window") == 0:  # what converters write for none
        config["sliding_window"] = None
    if "rope_scaling" in config:
        # What the kind is told by, wherever it stands in a config.
        config["original_max_position_embeddings"] = config["rope_scaling"]["original_max_position_embeddings"]


class Phi3(Decoder):
    """Llama without biases of which only a part of each head may turn."""

    default_pad: ClassVar = 32000
    begins_anew: ClassVar = True
    model_types: ClassVar = ("phi3",)
    saved: ClassVar = {"phi3": replace(saved_names("Phi3Model"), fused=_FUSED)}
    settings: ClassVar = (
        DECODER
        | WINDOWS
        | Settings(
            "config.json",
            used={},
            harmless={"auto_map": "Transformers has the family, and uses that code only where it is told to"},
            refused={
                "lm_head_bias": Refused("a bias of the logits"),
                "full_attn_mod": Refused("layers that differ", (1,)),
                "interpolate_factor": Refused("positions that are scaled", (1,)),
            },
        )
    )
    default_eps: ClassVar = 1e-5
    gguf: ClassVar = {
        "phi3": decoder_names(
            "phi3",
            "Phi3ForCausalLM",
            keys={"sliding_window": "attention.sliding_window"},
            blocks={"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
            defaults={"rms_norm_eps": 1e-5},
            factors=True,
            partial=True,
            finish=_finish_gguf,
        )
    }

    def details_of(self, c: Config) -> Details:
        return Details(
            rotaries=(rotary(Config(_longrope(c.values)), self.head_dim, partial=True),) * self.layers,
            windows=windows(c, self.layers, [True] * self.layers),
            gate=gate_kind(c),
            causal=c.boolean("is_causal", True),
        )


def _longrope(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with today's name for what its kind of rotary embeddings was called first."""
    found = dict(config)
    for key in _ROPES:
        values = found.get(key)
        if isinstance(values, Mapping):
            kinds = {k: "longrope" for k in ("type", "rope_type") if values.get(k) in ("su", "yarn")}
            found[key] = {**values, **kinds}
    return found

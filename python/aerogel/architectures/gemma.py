"""Gemma (arXiv 2403.08295) and Gemma 2 (arXiv 2408.00118): norms that multiply with 1 + weight, embeddings scaled by the
root of their width, a gate of tanh's GELU. Gemma 2 has norms behind its blocks too, windows in every other layer, and
capped scores and logits.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import decoder_names
from aerogel.architectures.decoder_settings import DECODER, NO_WINDOWS, WINDOWS
from aerogel.architectures.details import Details, gate_kind
from aerogel.architectures.files import GGUFSource
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Refused, Settings
from aerogel.architectures.windows import no_windows, windows
from aerogel.errors import ConfigError

#: For the families whose norms stand on both sides of each block.
SANDWICH = Settings(
    "config.json",
    used={
        "hidden_activation": "the activation of the gate",
        "query_pre_attn_scalar": "scores are divided by its root",
        "attention_bias": "biases of the attention's linears",
        "final_logit_softcapping": "logits are capped",
    },
    harmless={"hidden_act": "hidden_activation says it", "cache_implementation": "how fast, not what"},
)
#: llama.cpp's names of the norms of those families.
SANDWICH_NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
#: What Transformers takes where a config is silent.
WIDTH = 256
_GELU = "gelu_pytorch_tanh"
GGUF_DEFAULTS = {"hidden_act": _GELU, "hidden_activation": _GELU}


def attention_scale(c: Config) -> float:
    """Of the scores."""
    scalar = c.number("query_pre_attn_scalar", WIDTH)
    if not 1e-30 < scalar < 1e30:
        raise ConfigError(
            f"config: query_pre_attn_scalar: expected a positive number that float32 can hold, got {scalar}"
        )
    return 1 / math.sqrt(scalar)


def cap(c: Config, key: str, default: float = 0.0) -> float:
    """A soft cap; null means that there is none, which is not what a missing key means."""
    if key in c.values and c.values[key] is None:
        return 0.0
    value = c.number(key, default)
    if value and not 1e-30 < value < 1e30:
        raise ConfigError(f"config: {key}: expected a positive number that float32 can hold, got {value}")
    return value


def scalar_of_heads(largest: int) -> Any:
    """Completes the config of a GGUF file, which has no query_pre_attn_scalar: llama.cpp goes by the number of layers.

    Args:
        largest: the layers of the family's largest model, in which heads are narrower than they would be side by side.
    """

    def finish(file: GGUFSource, config: dict[str, Any]) -> None:
        side_by_side = config["num_hidden_layers"] == largest
        config["query_pre_attn_scalar"] = (
            config["hidden_size"] // config["num_attention_heads"] if side_by_side else config["head_dim"]
        )

    return finish


class Gemma(Decoder):
    """Llama with other norms, scaled embeddings and another gate."""

    default_pad: ClassVar = 0
    model_types: ClassVar = ("gemma",)
    saved: ClassVar = {"gemma": saved_names("GemmaModel")}
    settings: ClassVar = (
        DECODER
        | NO_WINDOWS
        | Settings(
            "config.json",
            used={"attention_bias": "biases of the attention's linears"},
            refused={
                "hidden_activation": Refused("Transformers goes by hidden_act", (_GELU,)),
                "use_bidirectional_attention": Refused("attention to what comes after"),
            },
        )
    )
    gguf: ClassVar = {"gemma": decoder_names("gemma", "GemmaForCausalLM", defaults=GGUF_DEFAULTS, norm_offset=1.0)}
    default_head_dim: ClassVar = WIDTH

    def details_of(self, c: Config) -> Details:
        biases = c.boolean("attention_bias", False)
        # Its first configs say gelu and mean this one.
        gate = "gelu_tanh" if c.values.get("hidden_act") == "gelu" else gate_kind(c, default=_GELU)
        return Details(
            rotaries=(rotary(c, self.head_dim),) * self.layers,
            windows=no_windows(c, self.layers),
            norm_offset=1.0,
            qkv_bias=biases,
            out_bias=biases,
            gate=gate,
            causal=c.boolean("is_causal", True),
            embedding_scale=math.sqrt(self.hidden_size),
        )


class Gemma2(Decoder):
    """Gemma with norms on both sides of each block, windows, and capped scores and logits."""

    default_pad: ClassVar = 0
    model_types: ClassVar = ("gemma2",)
    saved: ClassVar = {"gemma2": saved_names("Gemma2Model")}
    settings: ClassVar = (
        DECODER
        | WINDOWS
        | SANDWICH
        | Settings(
            "config.json",
            used={"attn_logit_softcapping": "scores are capped"},
            refused={"use_bidirectional_attention": Refused("attention to what comes after")},
        )
    )
    gguf: ClassVar = {
        "gemma2": decoder_names(
            "gemma2",
            "Gemma2ForCausalLM",
            norms=SANDWICH_NORMS,
            keys={
                "sliding_window": "attention.sliding_window",
                "attn_logit_softcapping": "attn_logit_softcapping",
                "final_logit_softcapping": "final_logit_softcapping",
            },
            defaults=GGUF_DEFAULTS,
            finish=scalar_of_heads(46),
            norm_offset=1.0,
        )
    }
    default_head_dim: ClassVar = WIDTH

    def details_of(self, c: Config) -> Details:
        biases = c.boolean("attention_bias", False)
        return Details(
            rotaries=(rotary(c, self.head_dim),) * self.layers,
            windows=windows(c, self.layers, [i % 2 == 0 for i in range(self.layers)], default=4096),
            attention_norms=("input_layernorm", "post_attention_layernorm"),
            ffn_norms=("pre_feedforward_layernorm", "post_feedforward_layernorm"),
            norm_offset=1.0,
            qkv_bias=biases,
            out_bias=biases,
            gate=gate_kind(c, "hidden_activation", _GELU),
            causal=c.boolean("is_causal", True),
            attention_scale=attention_scale(c),
            attention_cap=cap(c, "attn_logit_softcapping", 50.0),
            embedding_scale=math.sqrt(self.hidden_size),
            logit_cap=cap(c, "final_logit_softcapping", 30.0),
        )

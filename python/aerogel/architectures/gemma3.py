"""Gemma 3 (arXiv 2503.19786) and EmbeddingGemma (arXiv 2509.20354): Gemma 2 with norms of queries and keys in place of caps,
and five layers with a window, and rotary embeddings of their own, to one without.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from aerogel._core import Rotary
from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import QK_NORMS, decoder_names
from aerogel.architectures.decoder_settings import DECODER, WINDOWS
from aerogel.architectures.details import Details, gate_kind
from aerogel.architectures.gemma import (
    GGUF_DEFAULTS,
    SANDWICH,
    SANDWICH_NORMS,
    WIDTH,
    attention_scale,
    cap,
    scalar_of_heads,
)
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Settings
from aerogel.architectures.windows import KINDS, Windows, layer_kinds, windows
from aerogel.errors import ConfigError

#: What a config of text and images need not say of its text.
_DEFAULTS = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131072,
}
_TOP = ("bos_token_id", "eos_token_id", "pad_token_id", "quantization_config", "torch_dtype", "dtype")
_CLASSES = {
    "Gemma3ForConditionalGeneration": "Gemma3ForCausalLM",
    "Gemma3Model": "Gemma3TextModel",
    "Gemma3ForSequenceClassification": "Gemma3TextForSequenceClassification",
}
_KEYS = {
    "sliding_window": "attention.sliding_window",
    "sliding_window_pattern": "attention.sliding_window_pattern",
    "rope_local_base_freq": "rope.freq_base_swa",
    "final_logit_softcapping": "final_logit_softcapping",
}
# The text of a model that sees images too; the names before and since Transformers 5.
_SAVED = replace(
    saved_names("Gemma3TextModel"), around=("model.language_model.", "language_model.model.", "language_model.")
)


def _windowed(c: Config, layers: int) -> list[bool]:
    """Of each layer: whether it has a window, and the rotary embeddings of those that do."""
    kinds = layer_kinds(c, layers)
    if kinds is not None:
        return [KINDS[kind] for kind in kinds]
    period = c.integer("sliding_window_pattern", 6)
    return [(i + 1) % period != 0 for i in range(layers)]


def _windows(c: Config, layers: int, windowed: Sequence[bool], causal: bool) -> Windows:
    found = windows(c, layers, windowed, default=4096)
    if causal:
        return found
    half = c.integer("sliding_window", 4096) // 2  # it counts both sides
    return tuple(None if window is None else half for window in found)


def _rotary(c: Config, head_dim: int, kind: str, theta: float, top: Sequence[str] = ()) -> Rotary:
    """Of the layers of one kind: what rope_parameters has for it, and where that is silent, the keys `top` of the config."""
    given = c.values.get("rope_parameters")
    if isinstance(given, Mapping) and any(isinstance(value, Mapping) for value in given.values()):
        own = given.get(kind)
    else:
        own = given if top else None
    known = own if isinstance(own, Mapping) else {}
    found = {key: c.values[key] for key in ("max_position_embeddings", *top) if key in c.values and key not in known}
    return rotary(Config({**found, "rope_parameters": own}), head_dim, theta=theta)


def _rotaries(c: Config, head_dim: int, windowed: Sequence[bool]) -> tuple[Rotary, ...]:
    """Of each layer. Older configs have the settings of layers without a window at the top, and a theta for the others."""
    top = ("rope_theta", "rope_scaling", "original_max_position_embeddings", "partial_rotary_factor")
    everywhere = _rotary(c, head_dim, "full_attention", 1e6, top)
    near = _rotary(c, head_dim, "sliding_attention", c.number("rope_local_base_freq", 10000.0))
    return tuple(near if flag else everywhere for flag in windowed)


class Gemma3(Decoder):
    """Gemma 2 with norms of queries and keys. Of a model of text and images, the text."""

    default_pad: ClassVar = 0
    model_types: ClassVar = ("gemma3_text", "gemma3")
    harmless = {
        **Decoder.harmless,
        r"(vision_tower|multi_modal_projector)\..*": "the part that sees images",
    }
    saved: ClassVar = dict.fromkeys(model_types, _SAVED)
    settings: ClassVar = (
        DECODER
        | WINDOWS
        | SANDWICH
        | Settings(
            "config.json",
            used={
                "sliding_window_pattern": "every such layer has no window, where layer_types does not say it",
                "rope_local_base_freq": "rotary embeddings of the layers with a window",
                "use_bidirectional_attention": "true: each token also attends to what comes after it, and sliding_window "
                "counts both sides",
            },
            harmless={"_sliding_window_pattern": "layer_types says it"},
        )
    )
    gguf: ClassVar = {
        "gemma3": decoder_names(
            "gemma3_text",
            "Gemma3ForCausalLM",
            norms={**SANDWICH_NORMS, **QK_NORMS},
            keys=_KEYS,
            defaults={**GGUF_DEFAULTS, "rope_theta": 1e6},
            finish=scalar_of_heads(62),
            norm_offset=1.0,
        ),
        "gemma-embedding": decoder_names(
            "gemma3_text",
            "Gemma3TextModel",
            norms={**SANDWICH_NORMS, **QK_NORMS},
            keys=_KEYS,
            defaults={**GGUF_DEFAULTS, "rope_theta": 1e6, "use_bidirectional_attention": True},
            tensors={"dense_2.weight": "sentence.0.weight", "dense_3.weight": "sentence.1.weight"},
            finish=scalar_of_heads(62),
            norm_offset=1.0,
        ),
    }
    default_head_dim: ClassVar = WIDTH

    @classmethod
    def text_of(cls, config: Mapping[str, Any]) -> Mapping[str, Any]:
        text = config.get("text_config")
        if config.get("model_type") != "gemma3":
            return config
        if not isinstance(text, Mapping):
            raise ConfigError(f"config: text_config: expected an object, got {text!r:.80}")
        top = {key: config[key] for key in _TOP if config.get(key) is not None}
        declared = Config(config).architecture("Gemma3ForConditionalGeneration") or ""
        named = [_CLASSES.get(declared, declared)]
        return {**_DEFAULTS, **text, **top, "model_type": "gemma3_text", "architectures": named}

    def details_of(self, c: Config) -> Details:
        biases = c.boolean("attention_bias", False)
        causal = c.boolean("is_causal", True) and not c.boolean("use_bidirectional_attention", False)
        self._windowed = _windowed(c, self.layers)
        return Details(
            rotaries=_rotaries(c, self.head_dim, self._windowed),
            windows=_windows(c, self.layers, self._windowed, causal),
            attention_norms=("input_layernorm", "post_attention_layernorm"),
            ffn_norms=("pre_feedforward_layernorm", "post_feedforward_layernorm"),
            norm_offset=1.0,
            qk_norm="head",
            qkv_bias=biases,
            out_bias=biases,
            gate=gate_kind(c, "hidden_activation", "gelu_pytorch_tanh"),
            causal=causal,
            attention_scale=attention_scale(c),
            embedding_scale=math.sqrt(self.hidden_size),
            logit_cap=cap(c, "final_logit_softcapping"),
        )

    def layer_settings(self, config: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
        return {"layer_types": ["sliding_attention" if self._windowed[i] else "full_attention" for i in kept]}

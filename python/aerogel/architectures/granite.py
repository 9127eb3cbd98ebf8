"""Granite 3: Llama with four factors (maximal update parametrization, arXiv 2203.03466)."""

from __future__ import annotations

from typing import Any, ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import decoder_names
from aerogel.architectures.decoder_settings import BIASES, DECODER, NO_WINDOWS
from aerogel.architectures.details import Details, gate_kind
from aerogel.architectures.files import GGUFSource
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Settings
from aerogel.architectures.windows import no_windows
from aerogel.errors import ConfigError


def _finish_gguf(file: GGUFSource, config: dict[str, Any]) -> None:
    for key in ("embedding_multiplier", "residual_multiplier", "logits_scaling"):
        if config.get(key) == 0:  # llama.cpp's word for none
            del config[key]
    if config.get("attention_multiplier", 0) == 0:
        config["attention_multiplier"] = config["head_dim"] ** -0.5


class Granite(Decoder):
    """Llama with factors on embeddings, on what blocks add, on scores and on logits."""

    model_types: ClassVar = ("granite",)
    saved: ClassVar = {"granite": saved_names("GraniteModel", classifies=False)}
    settings: ClassVar = (
        DECODER
        | BIASES
        | NO_WINDOWS
        | Settings(
            "config.json",
            used={
                "embedding_multiplier": "a factor on the token embeddings",
                "residual_multiplier": "a factor on what each block adds",
                "attention_multiplier": "a factor on the scores, instead of one by the width of a head",
                "logits_scaling": "the logits are divided by it",
            },
        )
    )
    gguf: ClassVar = {
        "granite": decoder_names(
            "granite",
            "GraniteForCausalLM",
            keys={
                "embedding_multiplier": "embedding_scale",
                "residual_multiplier": "residual_scale",
                "attention_multiplier": "attention.scale",
                "logits_scaling": "logit_scale",
            },
            interleaved=True,
            factors=True,
            finish=_finish_gguf,
        )
    }

    def details_of(self, c: Config) -> Details:
        biases = c.boolean("attention_bias", False)
        return Details(
            rotaries=(rotary(c, self.head_dim),) * self.layers,
            windows=no_windows(c, self.layers),
            qkv_bias=biases,
            out_bias=biases,
            ffn_bias=c.boolean("mlp_bias", False),
            gate=gate_kind(c),
            causal=c.boolean("is_causal", True),
            attention_scale=_factor(c, "attention_multiplier"),
            embedding_scale=_factor(c, "embedding_multiplier"),
            residual_scale=_factor(c, "residual_multiplier"),
            logit_scale=1 / _factor(c, "logits_scaling"),
        )


def _factor(c: Config, key: str) -> float:
    value = c.number(key, 1.0)
    if not 1e-30 < value < 1e30:
        raise ConfigError(f"config: {key}: expected a positive number that float32 can hold, got {value}")
    return value

"""SmolLM3: Llama in which some layers have no rotary embeddings (NoPE, arXiv 2305.19466; layer by layer, 2501.18795)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import decoder_names
from aerogel.architectures.decoder_settings import BIASES, DECODER, WINDOWS
from aerogel.architectures.details import Details, gate_kind
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Settings
from aerogel.architectures.windows import windows
from aerogel.errors import ConfigError


class SmolLM3(Decoder):
    """Llama with layers that do not know where a token stands."""

    default_pad: ClassVar = 128004
    model_types: ClassVar = ("smollm3",)
    saved: ClassVar = {"smollm3": saved_names("SmolLM3Model")}
    settings: ClassVar = (
        DECODER
        | BIASES
        | WINDOWS
        | Settings(
            "config.json",
            used={
                "no_rope_layers": "of each layer: 1 with rotary embeddings, 0 without",
                "no_rope_layer_interval": "every so manieth layer has no rotary embeddings, where no_rope_layers is missing",
                "use_sliding_window": "whether sliding_window counts",
            },
            harmless={"max_window_layers": "layers without rotary embeddings have the windows"},
        )
    )
    # llama.cpp knows nothing but every fourth layer.
    gguf: ClassVar = {
        "smollm3": decoder_names(
            "smollm3", "SmolLM3ForCausalLM", defaults={"no_rope_layer_interval": 4}, interleaved=True
        )
    }

    def details_of(self, c: Config) -> Details:
        turns = _turning_layers(c, self.layers)
        turning = rotary(c, self.head_dim, theta=2000000.0)
        biases = c.boolean("attention_bias", False)
        return Details(
            rotaries=tuple(turning if turn else None for turn in turns),
            windows=windows(c, self.layers, [not turn for turn in turns], c.boolean("use_sliding_window", False)),
            qkv_bias=biases,
            out_bias=biases,
            ffn_bias=c.boolean("mlp_bias", False),
            gate=gate_kind(c),
            causal=c.boolean("is_causal", True),
        )

    def layer_settings(self, config: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
        turns = [int(self.details.rotaries[i] is not None) for i in kept]
        return {**super().layer_settings(config, kept), "no_rope_layers": turns}


def _turning_layers(c: Config, layers: int) -> list[bool]:
    flags = c.values.get("no_rope_layers")
    if flags is None:
        interval = c.integer("no_rope_layer_interval", 4)
        return [(i + 1) % interval != 0 for i in range(layers)]
    if not isinstance(flags, list) or len(flags) != layers or any(flag not in (0, 1) for flag in flags):
        raise ConfigError(f"config: no_rope_layers: expected 0 or 1 for each of {layers} layers, got {flags!r:.80}")
    return [bool(flag) for flag in flags]

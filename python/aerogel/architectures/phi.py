"""Phi-1, Phi-1.5 (arXiv 2309.05463) and Phi-2: both blocks read one layer norm, biases everywhere, no gate."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import LAYER_NORM, decoder_names
from aerogel.architectures.decoder_settings import DECODER, NO_WINDOWS
from aerogel.architectures.details import Details, Modules
from aerogel.architectures.encoder import ACTIVATIONS
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Settings
from aerogel.architectures.windows import no_windows


class Phi(Decoder):
    """Blocks side by side behind one layer norm; a part of each head turns."""

    model_types: ClassVar = ("phi",)
    saved: ClassVar = {"phi": replace(saved_names("PhiModel"), parts=("embed_tokens.", "layers.", "final_layernorm."))}
    settings: ClassVar = (
        DECODER
        | NO_WINDOWS
        | Settings(
            "config.json",
            used={"layer_norm_eps": "layer norms"},
            harmless={
                "rms_norm_eps": "layer_norm_eps says it",
                **dict.fromkeys(("attention_bias", "mlp_bias"), "all linears have biases"),
                "auto_map": "Transformers has the family, and uses that code only where it is told to",
            },
        )
    )
    eps_key: ClassVar = "layer_norm_eps"
    default_eps: ClassVar = 1e-5
    modules: ClassVar = Modules(norm="final_layernorm", out="self_attn.dense", up="mlp.fc1", down="mlp.fc2")
    gguf: ClassVar = {
        "phi2": decoder_names(
            "phi",
            "PhiForCausalLM",
            {"attn_norm": "input_layernorm"},
            keys={"layer_norm_eps": LAYER_NORM},
            defaults={"layer_norm_eps": 1e-5, "hidden_act": "gelu_new"},
            tensors={
                "output.bias": "lm_head.bias",
                "output_norm.weight": "final_layernorm.weight",
                "output_norm.bias": "final_layernorm.bias",
            },
            blocks={"attn_output": modules.out, "ffn_up": modules.up, "ffn_down": modules.down},
            norm_biases=True,
            partial=True,
        )
    }

    def details_of(self, c: Config) -> Details:
        return Details(
            rotaries=(rotary(c, self.head_dim, partial=True, part=0.5),) * self.layers,
            windows=no_windows(c, self.layers),
            ffn_norms=(None, None),
            layer_norm=True,
            parallel=True,
            gated=False,
            qkv_bias=True,
            out_bias=True,
            ffn_bias=True,
            head_bias=True,
            gate=c.choice("hidden_act", ACTIVATIONS, "gelu_new"),
            causal=c.boolean("is_causal", True),
        )

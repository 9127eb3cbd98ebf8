"""StarCoder 2 (arXiv 2402.19173): a decoder with rotary embeddings, but layer norms, biases and no gate."""

from __future__ import annotations

from typing import ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import LAYER_NORM, PRE_NORMS, decoder_names
from aerogel.architectures.decoder_settings import DECODER, WINDOWS
from aerogel.architectures.details import Details, Modules
from aerogel.architectures.encoder import ACTIVATIONS
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Settings
from aerogel.architectures.windows import windows


class Starcoder2(Decoder):
    """Layer norms, biases everywhere, no gate."""

    model_types: ClassVar = ("starcoder2",)
    saved: ClassVar = {"starcoder2": saved_names("Starcoder2Model")}
    settings: ClassVar = (
        DECODER
        | WINDOWS
        | Settings(
            "config.json",
            used={"norm_epsilon": "layer norms", "use_bias": "biases of all linears"},
            harmless={
                **dict.fromkeys(("attention_bias", "mlp_bias"), "use_bias says it"),
                "rms_norm_eps": "norm_epsilon says it",
                "norm_type": "the tensors say it",
                "mlp_type": "the tensors say it",
            },
        )
    )
    eps_key: ClassVar = "norm_epsilon"
    default_eps: ClassVar = 1e-5
    modules: ClassVar = Modules(up="mlp.c_fc", down="mlp.c_proj")
    gguf: ClassVar = {
        "starcoder2": decoder_names(
            "starcoder2",
            "Starcoder2ForCausalLM",
            PRE_NORMS,
            keys={"norm_epsilon": LAYER_NORM},
            defaults={"norm_epsilon": 1e-5, "hidden_act": "gelu_pytorch_tanh"},
            blocks={"ffn_up": modules.up, "ffn_down": modules.down},
            norm_biases=True,
            finish=lambda file, config: config.update(use_bias=config["attention_bias"]),
        )
    }

    def details_of(self, c: Config) -> Details:
        biases = c.boolean("use_bias", True)
        return Details(
            rotaries=(rotary(c, self.head_dim),) * self.layers,
            windows=windows(c, self.layers, [True] * self.layers),
            layer_norm=True,
            gated=False,
            qkv_bias=biases,
            out_bias=biases,
            ffn_bias=biases,
            gate=c.choice("hidden_act", ACTIVATIONS, "gelu_pytorch_tanh"),
            causal=c.boolean("is_causal", True),
        )

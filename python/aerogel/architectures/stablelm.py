"""StableLM (arXiv 2402.17834): Llama with layer norms; a part of each head turns. In some both blocks read one norm."""

from __future__ import annotations

from typing import ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import LAYER_NORM, PRE_NORMS, decoder_names
from aerogel.architectures.decoder_settings import DECODER, NO_WINDOWS
from aerogel.architectures.details import Details, gate_kind
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Settings
from aerogel.architectures.windows import no_windows


class StableLm(Decoder):
    """Layer norms, a part of each head turns, and perhaps both blocks side by side."""

    model_types: ClassVar = ("stablelm",)
    saved: ClassVar = {"stablelm": saved_names("StableLmModel")}
    settings: ClassVar = (
        DECODER
        | NO_WINDOWS
        | Settings(
            "config.json",
            used={
                "layer_norm_eps": "layer norms",
                "use_qkv_bias": "biases of queries, keys and values",
                "use_parallel_residual": "whether both blocks read one norm",
            },
            harmless={
                "rms_norm_eps": "layer_norm_eps says it",
                **dict.fromkeys(("attention_bias", "mlp_bias"), "use_qkv_bias says it; the others have none"),
            },
        )
    )
    heads_fill_hidden: ClassVar = True
    eps_key: ClassVar = "layer_norm_eps"
    default_eps: ClassVar = 1e-5
    gguf: ClassVar = {
        "stablelm": decoder_names(
            "stablelm",
            "StableLmForCausalLM",
            PRE_NORMS,
            keys={"layer_norm_eps": LAYER_NORM, "use_parallel_residual": "use_parallel_residual"},
            defaults={"layer_norm_eps": 1e-5},
            norm_biases=True,
            partial=True,
            # Of some files the key says one thing and the tensors another: llama.cpp goes by the tensors.
            finish=lambda file, config: config.update(
                use_qkv_bias=config["attention_bias"], use_parallel_residual="blk.0.ffn_norm.weight" not in file.tensors
            ),
        )
    }

    def details_of(self, c: Config) -> Details:
        parallel = c.boolean("use_parallel_residual", False)
        return Details(
            rotaries=(rotary(c, self.head_dim, partial=True, part=0.25),) * self.layers,
            windows=no_windows(c, self.layers),
            ffn_norms=(None if parallel else "post_attention_layernorm", None),
            layer_norm=True,
            parallel=parallel,
            qkv_bias=c.boolean("use_qkv_bias", False),
            gate=gate_kind(c),
            causal=c.boolean("is_causal", True),
        )

"""Llama (arXiv 2302.13971), up to Llama 3.3."""

from __future__ import annotations

from typing import Any, ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import decoder_names
from aerogel.architectures.decoder_settings import BIASES, DECODER, NO_WINDOWS
from aerogel.architectures.details import Details, gate_kind
from aerogel.architectures.files import GGUFSource
from aerogel.architectures.rope import rotary
from aerogel.architectures.windows import no_windows


def _finish_gguf(file: GGUFSource, config: dict[str, Any]) -> None:
    """Files of models with biases of queries, keys and values only are Qwen2's by another name."""
    if config["attention_bias"] and "blk.0.attn_output.bias" not in file.tensors:
        del config["attention_bias"]
        config |= {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}


class Llama(Decoder):
    """The decoder that the others are variants of."""

    model_types: ClassVar = ("llama",)
    saved: ClassVar = {"llama": saved_names("LlamaModel")}
    settings: ClassVar = DECODER | BIASES | NO_WINDOWS
    gguf: ClassVar = {
        "llama": decoder_names(
            "llama",
            "LlamaForCausalLM",
            defaults={"rms_norm_eps": 1e-5},
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
        )

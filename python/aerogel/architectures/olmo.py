"""OLMo 2 (arXiv 2501.00656), whose norms stand behind the blocks, and OLMo 3, of which most layers have a window."""

from __future__ import annotations

from typing import ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import QK_NORMS, decoder_names
from aerogel.architectures.decoder_settings import DECODER, NO_WINDOWS
from aerogel.architectures.details import Details, gate_kind
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Settings
from aerogel.architectures.windows import no_windows

_BIASES = Settings("config.json", used={"attention_bias": "biases of the attention's linears"})
_NORMS = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm", **QK_NORMS}


class Olmo2(Decoder):
    """Norms behind attention and the feed-forward block, and over all heads of queries and of keys."""

    model_types: ClassVar = ("olmo2",)
    saved: ClassVar = {"olmo2": saved_names("Olmo2Model")}
    settings: ClassVar = DECODER | _BIASES | NO_WINDOWS
    gguf: ClassVar = {"olmo2": decoder_names("olmo2", "Olmo2ForCausalLM", _NORMS)}
    default_eps: ClassVar = 1e-5

    def details_of(self, c: Config) -> Details:
        biases = c.boolean("attention_bias", False)
        return Details(
            rotaries=(rotary(c, self.head_dim),) * self.layers,
            windows=no_windows(c, self.layers),
            attention_norms=(None, "post_attention_layernorm"),
            ffn_norms=(None, "post_feedforward_layernorm"),
            qk_norm="heads",
            qkv_bias=biases,
            out_bias=biases,
            gate=gate_kind(c),
            causal=c.boolean("is_causal", True),
        )

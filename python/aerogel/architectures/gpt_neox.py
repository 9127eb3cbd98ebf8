"""GPT-NeoX (arXiv 2204.06745), as Pythia is (arXiv 2304.01373): both blocks read the same hidden states, each behind a layer
norm of its own; a part of each head turns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import LAYER_NORM, PRE_NORMS, decoder_names
from aerogel.architectures.decoder_settings import DECODER, NO_WINDOWS
from aerogel.architectures.details import Details, Modules
from aerogel.architectures.encoder import ACTIVATIONS
from aerogel.architectures.fused import Fused, heads_of
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Settings
from aerogel.architectures.windows import no_windows
from aerogel.errors import UnsupportedModelError

_LAYER = "layers.{n}."
_PARTS = ("attention.query", "attention.key", "attention.value")


class GPTNeoX(Decoder):
    """Biases everywhere, no gate. Queries, keys and values are saved as one, head by head."""

    model_types: ClassVar = ("gpt_neox",)
    saved: ClassVar = {
        "gpt_neox": replace(
            saved_names("GPTNeoXModel"),
            prefix="gpt_neox.",
            parts=("embed_in.", "layers.", "final_layer_norm."),
            tied={"embed_out.weight": "embed_in.weight"},
            fused=(
                Fused(_LAYER + "attention.query_key_value", tuple(_LAYER + part for part in _PARTS), turns=heads_of),
                Fused(
                    _LAYER + "attention.qkv", tuple(_LAYER + part for part in _PARTS)
                ),  # as llama.cpp's converter does it
            ),
        )
    }
    harmless = {
        **Decoder.harmless,
        r"layers\.\d+\.attention\.(masked_)?bias": "the causal mask is computed",
        r"layers\.\d+\.attention\.rotary_emb\.inv_freq": "rotary frequencies are computed",
    }
    settings: ClassVar = (
        DECODER
        | NO_WINDOWS
        | Settings(
            "config.json",
            used={
                "layer_norm_eps": "layer norms",
                "use_parallel_residual": "whether the feed-forward block does not see what attention adds",
                "rotary_pct": "rotary embeddings",
                "rotary_emb_base": "rotary embeddings",
                "attention_bias": "biases of the attention's linears",
            },
            harmless={"rms_norm_eps": "layer_norm_eps says it", "mlp_bias": "the feed-forward linears have biases"},
        )
    )
    heads_fill_hidden: ClassVar = True
    eps_key: ClassVar = "layer_norm_eps"
    default_eps: ClassVar = 1e-5
    modules: ClassVar = Modules(
        words="embed_in",
        norm="final_layer_norm",
        queries_keys_values=_PARTS,
        out="attention.dense",
        up="mlp.dense_h_to_4h",
        down="mlp.dense_4h_to_h",
        head="embed_out",
    )
    gguf: ClassVar = {
        "gptneox": decoder_names(
            "gpt_neox",
            "GPTNeoXForCausalLM",
            PRE_NORMS,
            keys={"layer_norm_eps": LAYER_NORM, "use_parallel_residual": "use_parallel_residual"},
            defaults={"layer_norm_eps": 1e-5, "hidden_act": "gelu"},
            tensors={
                "token_embd.weight": "embed_in.weight",
                "output.weight": "embed_out.weight",
                "output_norm.weight": "final_layer_norm.weight",
                "output_norm.bias": "final_layer_norm.bias",
            },
            blocks={
                "attn_qkv": "attention.qkv",
                "attn_output": modules.out,
                "ffn_up": modules.up,
                "ffn_down": modules.down,
            },
            norm_biases=True,
            partial=True,
            finish=lambda file, config: config.update(attention_bias="blk.0.attn_qkv.bias" in file.tensors),
        )
    }

    def details_of(self, c: Config) -> Details:
        if self.kv_heads != self.heads:
            raise UnsupportedModelError(
                f"config: num_key_value_heads: {c.values.get('num_key_value_heads')!r:.80}: in this family no heads share "
                "keys and values"
            )
        biases = c.boolean("attention_bias", True)
        theta, part = c.number("rotary_emb_base", 10000.0), c.number("rotary_pct", 0.25)
        return Details(
            rotaries=(rotary(c, self.head_dim, partial=True, theta=theta, part=part),) * self.layers,
            windows=no_windows(c, self.layers),
            layer_norm=True,
            parallel=c.boolean("use_parallel_residual", True),
            gated=False,
            qkv_bias=biases,
            out_bias=biases,
            ffn_bias=True,
            gate=c.choice("hidden_act", ACTIVATIONS, "gelu"),
            causal=c.boolean("is_causal", True),
        )

"""JinaBERT encoders (arXiv 2310.19923): BERT with symmetric ALiBi slopes for positions, and gated feed-forward blocks.

jina-embeddings-v2 and the v1 rerankers say model_type "bert" and come with code of their own, jina-bert-implementation;
what it computes is written here, it is not run. The code model's variant is in `jina_code.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from aerogel.architectures.config import Config
from aerogel.architectures.encoder import SETTINGS, Names
from aerogel.architectures.files import GGUFNames, GGUFSource, SavedNames
from aerogel.architectures.fused import Fused
from aerogel.architectures.gated import GatedEncoder, check_code
from aerogel.architectures.heads import (
    MASKED,
    SEQUENCE,
    TOKENS,
    Head,
    classes,
    decoder,
    masked_head,
    sequence_head,
    span_head,
    token_head,
)
from aerogel.architectures.settings import Settings

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value

_MLP = "encoder.layer.{n}.mlp."
_GGUF_BLOCKS = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_down": "mlp.wo",
    "layer_output_norm": "mlp.layernorm",
}


def _finish_gguf(file: GGUFSource, config: dict[str, Any]) -> None:
    types = file.tensors.get("token_types.weight")
    config["type_vocab_size"] = 1 if types is None else types.shape[0]


GGUF = GGUFNames(
    keys={
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count",
        "max_position_embeddings": "context_length",
        "layer_norm_eps": "attention.layer_norm_epsilon",
    },
    defaults={
        "model_type": "bert",
        "architectures": ["JinaBertModel"],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "position_embedding_type": "alibi",
        "feed_forward_type": "geglu",
    },
    tensors={
        "token_embd.weight": "embeddings.word_embeddings.weight",
        "token_types.weight": "embeddings.token_type_embeddings.weight",
        "token_embd_norm.weight": "embeddings.LayerNorm.weight",
        "token_embd_norm.bias": "embeddings.LayerNorm.bias",
    },
    blocks={
        **{
            f"{short}.{part}": f"encoder.layer.{{n}}.{long}.{part}"
            for short, long in _GGUF_BLOCKS.items()
            for part in ("weight", "bias")
        },
        "ffn_gate.weight": _MLP + "gate.weight",
        "ffn_up.weight": _MLP + "up.weight",
    },
    finish=_finish_gguf,
    zeros={"embeddings.token_type_embeddings.weight": ("type_vocab_size", "hidden_size")},
    whole={"ffn_up.weight": ("ffn_gate.weight", _MLP + "gated_layers.weight")},  # newer converters do not split it
)


class JinaBert(GatedEncoder):
    """Outputs as `Encoder`."""

    model_types: ClassVar = ("jina_bert",)
    classes: ClassVar = classes("JinaBert")
    modules: ClassVar = Names(up="mlp.up", down="mlp.wo", ffn_norm="mlp.layernorm")
    gate: ClassVar = "mlp.gate"
    position_kinds: ClassVar = ("alibi",)
    numbered_heads: ClassVar = True
    wordpiece: ClassVar = True
    saved: ClassVar = {
        "jina_bert": SavedNames(
            base_class="JinaBertModel",
            prefix="bert.",
            parts=("embeddings.", "encoder.", "pooler."),
            tied={"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight"},
            classifier="JinaBertForSequenceClassification",
            fused=(Fused(_MLP + "gated_layers", (_MLP + "gate", _MLP + "up")),),
        )
    }
    gguf: ClassVar = {"jina-bert-v2": GGUF}
    settings: ClassVar = SETTINGS | Settings(
        "config.json",
        used={
            "position_embedding_type": "alibi: the family",
            "hidden_act": "only words that are known: the gate's function is feed_forward_type's, the heads' is gelu",
            "feed_forward_type": "the gate's activation: geglu or reglu",
            "max_position_embeddings": "the longest sequence",
            "auto_map": "only JinaBERT's own classes, which are not run: what they compute is known",
        },
        harmless={
            "emb_pooler": "modules.json says it; JinaBERT's own code takes the mean",
            "model_max_length": "the tokenizer's own files say it",
        },
    )

    @classmethod
    def claims(cls, config: Mapping[str, Any]) -> str | None:
        ours = config.get("model_type") == "bert" and config.get("position_embedding_type") == "alibi"
        return "jina_bert" if ours else super().claims(config)

    def configure(self, c: Config) -> None:
        check_code(c, ("JinaBert",))
        self.activation = c.choice("feed_forward_type", {"geglu": "gelu", "reglu": "relu"}, "original")
        self.slopes = _slopes(self.heads[0])

    def make_head(self, kind: str, c: Config, names: Sequence[str]) -> Head:
        h = (self.hidden_size, "hidden")
        if kind == SEQUENCE:
            return sequence_head(h, self.labels, first="pooler.dense")
        if kind == TOKENS:
            return token_head(h, self.labels)
        if kind != MASKED:
            return span_head(h)
        cls, words, v = "cls.predictions.", self.module_names.words + ".weight", (self.vocab_size, "")
        biases = (cls + "bias", cls + "decoder.bias")
        tied = c.boolean("tie_word_embeddings", True)
        last, unread = decoder(names, cls + "decoder.weight", biases, words, tied, v, h)
        self.harmless.update(unread)
        return masked_head(h, h, cls + "transform.dense", cls + "transform.LayerNorm", self.eps, "gelu", last)

    def attention(self, p: Program, w: Parameters, i: int, qkv: Value) -> Value:
        a, d = self.heads[i], self.head_dim
        return p.attention(f"layers.{i}.attention", qkv, a, a, d, causal=False, slopes=self.slopes)


def _slopes(heads: int) -> np.ndarray:
    """float32 [heads]: ALiBi's slopes (arXiv 2108.12409): 2^(-8/n), its square and so on for n heads, a power of 2; for
    other numbers those of the power below, and then every second one of the power above."""

    def powers(n: int) -> list[float]:
        return [2.0 ** (-8 * (i + 1) / n) for i in range(n)]

    below = 1 << int(math.log2(heads))
    return np.array(powers(below) + powers(2 * below)[::2][: heads - below], np.float32)

"""MPNet encoders (arXiv 2004.09297): BERT's, with a bias of attention by the distance of two tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from aerogel.architectures.buckets import distance_buckets
from aerogel.architectures.config import Config
from aerogel.architectures.encoder import SETTINGS, Encoder, Names
from aerogel.architectures.files import SavedNames
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
from aerogel.architectures.tensors import Role, Tensor
from aerogel.errors import UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value

#: See `distance_buckets`.
_BUCKETS, _FAR = 32, 128
_BIAS = "encoder.relative_attention_bias.weight"
#: The row of the padding token, before which nothing is: positions are counted from the next one on.
_PADDING = 1


class MPNet(Encoder):
    """Outputs as `Encoder`."""

    model_types: ClassVar = ("mpnet",)
    classes: ClassVar = classes("MPNet")
    modules: ClassVar = Names(
        types=None,
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        out="attention.attn.o",
        attention_norm="attention.LayerNorm",
    )
    masked_tensors: ClassVar = r"lm_head\..*"
    saved: ClassVar = {
        "mpnet": SavedNames(
            base_class="MPNetModel",
            prefix="mpnet.",
            parts=("embeddings.", "encoder.", "pooler."),
            renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
            tied={"lm_head.decoder.weight": "embeddings.word_embeddings.weight"},
            classifier="MPNetForSequenceClassification",
        )
    }
    settings: ClassVar = SETTINGS | Settings(
        "config.json",
        used={"relative_attention_num_buckets": "only 32"},
        harmless={"type_vocab_size": "there are no token type embeddings"},
    )
    wordpiece: ClassVar = False
    numbered_heads: ClassVar = True

    def configure(self, c: Config) -> None:
        self.offset = _PADDING + 1
        buckets = c.integer("relative_attention_num_buckets", _BUCKETS)
        if buckets != _BUCKETS:
            raise UnsupportedModelError(
                f"config: relative_attention_num_buckets: expected {_BUCKETS}, which Transformers computes with whatever it "
                f"says, got {buckets}"
            )

    def make_head(self, kind: str, c: Config, names: Sequence[str]) -> Head:
        h = (self.hidden_size, "hidden")
        if kind == SEQUENCE:
            return sequence_head(h, self.labels, last="classifier.out_proj", first="classifier.dense")
        if kind == TOKENS:
            return token_head(h, self.labels)
        if kind != MASKED:
            return span_head(h)
        words, v, lm = self.module_names.words + ".weight", (self.vocab_size, ""), "lm_head."
        tied = c.boolean("tie_word_embeddings", True)
        last, unread = decoder(names, lm + "decoder.weight", (lm + "bias", lm + "decoder.bias"), words, tied, v, h)
        self.harmless.update(unread)
        return masked_head(h, h, lm + "dense", lm + "layer_norm", self.eps, "gelu", last)

    def tensors(self) -> list[Tensor]:
        bias = Tensor.over(_BIAS, "attention.bias", Role.KEPT, (_BUCKETS, ""), (max(self.heads), ""))
        return [*super().tensors(), bias]

    def attention(self, p: Program, w: Parameters, i: int, qkv: Value) -> Value:
        a, d = self.heads[i], self.head_dim
        bias: Any = w.vector(_BIAS)[distance_buckets(_BUCKETS, _FAR)].T  # [A, 2 * 128 + 1]
        return p.attention(f"layers.{i}.attention", qkv, a, a, d, causal=False, bias=bias)

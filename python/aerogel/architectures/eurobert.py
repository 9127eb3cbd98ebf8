"""EuroBERT encoders (arXiv 2503.05500): Llama's layers, in which every token sees all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder
from aerogel.architectures.decoder_settings import BIASES, DECODER, NO_WINDOWS
from aerogel.architectures.details import Details, gate_kind
from aerogel.architectures.files import SavedNames
from aerogel.architectures.gated import check_code
from aerogel.architectures.heads import (
    MASKED,
    SEQUENCE,
    TOKENS,
    Activation,
    Head,
    Linear,
    Pool,
    classes,
    head_kind,
    label_count,
    linear,
    sequence_head,
    token_head,
)
from aerogel.architectures.pooling import Pooling
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Settings
from aerogel.architectures.windows import no_windows

_CLASSES = {name: kind for name, kind in classes("EuroBert").items() if name != "EuroBertForQuestionAnswering"}


class EuroBert(Decoder):
    """Outputs "hidden" [T, H]; "embedding" and "pooled" [S, H] with a pooling; and what its head gives (`heads.Head`)."""

    model_types: ClassVar = ("eurobert",)
    default_eps: ClassVar = 1e-5
    saved: ClassVar = {
        "eurobert": SavedNames(
            base_class="EuroBertModel",
            prefix="model.",
            parts=("embed_tokens.", "layers.", "norm."),
            tied={"lm_head.weight": "embed_tokens.weight"},
            classifier="EuroBertForSequenceClassification",
        )
    }
    settings: ClassVar = (
        DECODER
        | NO_WINDOWS
        | BIASES
        | Settings(
            "config.json",
            used={
                "classifier_pooling": "how a classifier of texts reads the tokens: bos, mean or late",
                "auto_map": "only EuroBERT's own classes, which are not run: what they compute is known",
            },
            harmless={
                "mask_token": "the tokenizer says it",
                "pad_token": "the tokenizer says it",
                "clf_pooling": "classifier_pooling says it",
            },
        )
    )

    @classmethod
    def default_pooling(cls, config: Mapping[str, Any]) -> Pooling | None:
        declared = Config(config).architecture("EuroBertModel")
        return Pooling(("mean",), normalize=False) if declared == "EuroBertModel" else None

    def details_of(self, c: Config) -> Details:
        check_code(c, ("EuroBert",))
        biases = c.boolean("attention_bias", False)
        return Details(
            rotaries=(rotary(c, self.head_dim),) * self.layers,
            windows=no_windows(c, self.layers),
            qkv_bias=biases,
            out_bias=biases,
            ffn_bias=c.boolean("mlp_bias", False),
            gate=gate_kind(c),
            causal=False,
        )

    def _read_head(self, c: Config, names: Sequence[str]) -> None:
        kind = head_kind(c, _CLASSES)
        if kind == MASKED and self.pooling is not None:
            kind = None
        h = (self.hidden_size, "hidden")
        self.has_logits = self.tied = self.generates = False
        self.harmless = dict(type(self).harmless)
        if kind is None:
            self.harmless[r"lm_head\..*"] = "masked language model head; the model is used for its embeddings"
        if kind in (SEQUENCE, TOKENS):
            self.labels = label_count(c.values)
        if kind == SEQUENCE:
            self.head = self._classifier(c, h)
        elif kind == TOKENS:
            self.head = token_head(h, self.labels)
        elif kind == MASKED:
            tied = c.boolean("tie_word_embeddings", "lm_head.weight" not in names)
            bias = "lm_head.bias" if self.details.ffn_bias else None
            weight = "embed_tokens.weight" if tied else "lm_head.weight"
            self.head = Head("logits", (Linear(weight, bias, "head", (self.vocab_size, ""), h, tied),))
            if tied:
                self.harmless[r"lm_head\.weight"] = "tied to the token embeddings"
        self.outputs = ("hidden",)
        if self.pooling is not None:
            self.outputs += ("embedding", "pooled")
        if self.head is not None:
            self.outputs += self.head.outputs

    def _classifier(self, c: Config, h: tuple[int, str]) -> Head:
        how = c.choice("classifier_pooling", {"bos": "cls", "mean": "mean", "late": "late"}, "late")
        if how != "late":
            return sequence_head(h, self.labels, first="dense", activation="gelu", pool=how)
        # The mean over tokens of a linear is the linear of the mean.
        first, last = linear("dense", "pooler", h, h), linear("classifier", "classifier", (self.labels, ""), h)
        return Head("scores", (first, Activation("gelu"), Pool("mean"), last))

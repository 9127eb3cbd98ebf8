"""ELECTRA (arXiv 2003.10555): BERT whose embeddings may be narrower than its hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.encoder import SETTINGS, Encoder
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


class Electra(Encoder):
    """A discriminator is an encoder here; a generator a masked language model."""

    model_types: ClassVar = ("electra",)
    classes: ClassVar = classes("Electra", more={"ElectraForPreTraining": None})
    harmless = {
        **Encoder.harmless,
        r"discriminator_predictions\..*": "which tokens were replaced is not offered",
    }
    masked_tensors: ClassVar = r"generator_(predictions|lm_head)\..*"
    saved: ClassVar = {
        "electra": SavedNames(
            base_class="ElectraModel",
            prefix="electra.",
            parts=("embeddings.", "embeddings_project.", "encoder."),
            tied={"generator_lm_head.weight": "embeddings.word_embeddings.weight"},
            classifier="ElectraForSequenceClassification",
        )
    }
    wordpiece: ClassVar = True
    settings: ClassVar = SETTINGS | Settings(
        "config.json",
        used={"embedding_size": "width of the embeddings, which a linear makes that of the hidden states"},
        harmless={"summary_*": "classifiers of texts read the first token"},
    )

    def configure(self, c: Config) -> None:
        size = c.integer("embedding_size", 128)
        if size != self.hidden_size:
            self.width = (size, "")

    def hidden_widths(self) -> dict[str, int]:
        return {"hidden_size": 1} if self.narrow else {"hidden_size": 1, "embedding_size": 1}

    def make_head(self, kind: str, c: Config, names: Sequence[str]) -> Head:
        h = (self.hidden_size, "hidden")
        if kind == SEQUENCE:
            return sequence_head(h, self.labels, "classifier.out_proj", "classifier.dense", "gelu")
        if kind == TOKENS:
            return token_head(h, self.labels)
        if kind != MASKED:
            return span_head(h)
        weight, words = "generator_lm_head.weight", self.module_names.words + ".weight"
        tied, v = c.boolean("tie_word_embeddings", True), (self.vocab_size, "")
        last, unread = decoder(names, weight, ["generator_lm_head.bias"], words, tied, v, self.width)
        self.harmless.update(unread)
        first, norm = "generator_predictions.dense", "generator_predictions.LayerNorm"
        return masked_head(h, self.width, first, norm, self.eps, "gelu", last)

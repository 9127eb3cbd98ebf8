"""RoBERTa (arXiv 1907.11692), XLM-RoBERTa (1911.02116) and CamemBERT (1911.03894): one family, three trainings."""

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
from aerogel.errors import ConfigError


def _saved(name: str) -> SavedNames:
    return SavedNames(
        base_class=name + "Model",
        prefix="roberta.",
        parts=("embeddings.", "encoder.", "pooler."),
        tied={"lm_head.decoder.weight": "embeddings.word_embeddings.weight"},
        classifier=name + "ForSequenceClassification",
    )


class Roberta(Encoder):
    """BERT whose positions are counted from behind the padding token's id, with heads of its own."""

    model_types: ClassVar = ("roberta", "xlm-roberta", "camembert")
    classes: ClassVar = classes("Roberta", "XLMRoberta", "Camembert")
    byte_level: ClassVar = {"cls": "<s>", "sep": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
    masked_tensors: ClassVar = r"lm_head\..*"
    saved: ClassVar = {
        "roberta": _saved("Roberta"),
        "xlm-roberta": _saved("XLMRoberta"),
        "camembert": _saved("Camembert"),
    }
    settings: ClassVar = SETTINGS | Settings(
        "config.json", used={"pad_token_id": "the first token's position is the one behind it"}
    )

    def configure(self, c: Config) -> None:
        self.offset = (
            c.integer("pad_token_id", 1, minimum=-1) + 1
        )  # -1: of a file whose table begins with the first token
        if self.positions <= self.offset:
            raise ConfigError(
                f"config: max_position_embeddings: expected more than {self.offset}, the place of the first token, "
                f"got {self.positions}"
            )

    def make_head(self, kind: str, c: Config, names: Sequence[str]) -> Head:
        h = (self.hidden_size, "hidden")
        if kind == SEQUENCE:
            return sequence_head(h, self.labels, "classifier.out_proj", "classifier.dense")
        if kind == TOKENS:
            return token_head(h, self.labels)
        if kind != MASKED:
            return span_head(h)
        tied, words = c.boolean("tie_word_embeddings", True), self.module_names.words + ".weight"
        biases = ("lm_head.bias", "lm_head.decoder.bias")
        last, unread = decoder(names, "lm_head.decoder.weight", biases, words, tied, (self.vocab_size, ""), h)
        self.harmless.update(unread)
        return masked_head(h, h, "lm_head.dense", "lm_head.layer_norm", self.eps, "gelu", last)

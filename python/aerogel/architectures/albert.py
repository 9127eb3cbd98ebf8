"""ALBERT (arXiv 1909.11942): one layer, run over and over, on embeddings that are narrower than its hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

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
from aerogel.errors import UnsupportedModelError


class Albert(Encoder):
    """Every layer names the tensors of the only one: what compression does to them, it does once."""

    model_types: ClassVar = ("albert",)
    classes: ClassVar = classes("Albert", more={"AlbertForPreTraining": MASKED})
    layer_prefix: ClassVar = "encoder.albert_layer_groups.0.albert_layers.0."
    shares_layers: ClassVar = True
    modules: ClassVar = Names(
        projection="encoder.embedding_hidden_mapping_in",
        query="attention.query",
        key="attention.key",
        value="attention.value",
        out="attention.dense",
        attention_norm="attention.LayerNorm",
        up="ffn",
        down="ffn_output",
        ffn_norm="full_layer_layer_norm",
    )
    harmless = {**Encoder.harmless, r"sop_classifier\..*": "the order of sentences is not offered"}
    masked_tensors: ClassVar = r"predictions\..*"
    saved: ClassVar = {
        "albert": SavedNames(
            base_class="AlbertModel",
            prefix="albert.",
            parts=("embeddings.", "encoder.", "pooler."),
            tied={"predictions.decoder.weight": "embeddings.word_embeddings.weight"},
            classifier="AlbertForSequenceClassification",
        )
    }
    settings: ClassVar = SETTINGS | Settings(
        "config.json",
        used={
            "embedding_size": "width of the embeddings, which a linear makes that of the hidden states",
            "num_hidden_groups": "only 1: all layers are one",
            "inner_group_num": "only 1: all layers are one",
        },
        harmless=dict.fromkeys(
            ("down_scale_factor", "gap_size", "layers_to_keep", "net_structure_type", "num_memory_blocks"),
            "notes of the first training, which nothing reads",
        ),
    )

    def configure(self, c: Config) -> None:
        self.width = (c.integer("embedding_size", 128), "")
        for key in ("num_hidden_groups", "inner_group_num"):
            if (count := c.integer(key, 1)) != 1:
                raise UnsupportedModelError(
                    f"config: {key}: expected 1, as all layers of the models that are published are one, got {count}"
                )
        if len({*self.heads}) > 1 or len({*self.ffn}) > 1:
            raise UnsupportedModelError("config: expected layers of one width, as all of them are one")

    def make_head(self, kind: str, c: Config, names: Sequence[str]) -> Head:
        h = (self.hidden_size, "hidden")
        if kind == SEQUENCE:
            return sequence_head(h, self.labels, first="pooler")
        if kind == TOKENS:
            return token_head(h, self.labels)
        if kind != MASKED:
            return span_head(h)
        weight, words = "predictions.decoder.weight", self.module_names.words + ".weight"
        biases, v = ("predictions.bias", "predictions.decoder.bias"), (self.vocab_size, "")
        last, unread = decoder(names, weight, biases, words, c.boolean("tie_word_embeddings", True), v, self.width)
        self.harmless.update(unread)
        norm = "predictions.LayerNorm"
        return masked_head(h, self.width, "predictions.dense", norm, self.eps, self.activation, last)

"""ALBERT (arXiv 1909.11942): a layer, or a few, run over and over on embeddings that are narrower than its hidden states."""

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
from aerogel.errors import ConfigError, UnsupportedModelError


class Albert(Encoder):
    """Layers name tensors that others name too: what compression does to them, it does once.

    The layers stand in groups, one after the other, of which most models have one. Each run of a group is `inner_group_num`
    layers with tensors of their own, mostly one.
    """

    model_types: ClassVar = ("albert",)
    classes: ClassVar = classes("Albert", more={"AlbertForPreTraining": MASKED})
    layer_prefix: ClassVar = "encoder.albert_layer_groups.{}.albert_layers.{}."
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
            "num_hidden_groups": "how many groups of layers have tensors of their own",
            "inner_group_num": "layers of a group, run one after the other each time",
        },
        harmless=dict.fromkeys(
            ("down_scale_factor", "gap_size", "layers_to_keep", "net_structure_type", "num_memory_blocks"),
            "notes of the first training, which nothing reads",
        ),
    )

    def configure(self, c: Config) -> None:
        self.width = (c.integer("embedding_size", 128), "")
        for i in self.own_layers():
            if any((self.heads[i], self.ffn[i]) != (self.heads[j], self.ffn[j]) for j in self.layers_like(i)):
                raise UnsupportedModelError("config: expected layers of one width, where they have the same tensors")

    def count_layers(self, c: Config) -> int:
        self.groups_of_layers, self.inner = c.integer("num_hidden_groups", 1), c.integer("inner_group_num", 1)
        runs = c.integer("num_hidden_layers")
        if self.groups_of_layers > runs:
            raise ConfigError(
                f"config: num_hidden_groups: expected at most num_hidden_layers, {runs}, got {self.groups_of_layers}"
            )
        return runs * self.inner

    def prefix(self, layer: int) -> str:
        run, inner = divmod(layer, self.inner)
        share = self.layers / self.inner / self.groups_of_layers  # of the runs, perhaps a fraction
        return self.layer_prefix.format(int(run / share), inner)

    def own_layers(self) -> Sequence[int]:
        first: dict[str, int] = {}
        for i in range(self.layers):
            first.setdefault(self.prefix(i), i)
        return list(first.values())

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

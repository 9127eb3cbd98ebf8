"""DistilBERT (arXiv 1910.01108): BERT without token types, under names of its own."""

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


class DistilBert(Encoder):
    """Post-norm layers as BERT's; its classifier reads the first token through a ReLU."""

    model_types: ClassVar = ("distilbert",)
    classes: ClassVar = classes("DistilBert")
    layer_prefix: ClassVar = "transformer.layer.{}."
    modules: ClassVar = Names(
        types=None,
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        out="attention.out_lin",
        attention_norm="sa_layer_norm",
        up="ffn.lin1",
        down="ffn.lin2",
        ffn_norm="output_layer_norm",
    )
    masked_tensors: ClassVar = r"vocab_(transform|layer_norm|projector)\..*"
    config_names = {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
    }
    saved: ClassVar = {
        "distilbert": SavedNames(
            base_class="DistilBertModel",
            prefix="distilbert.",
            parts=("embeddings.", "transformer."),
            tied={"vocab_projector.weight": "embeddings.word_embeddings.weight"},
            classifier="DistilBertForSequenceClassification",
        )
    }
    wordpiece: ClassVar = True
    fixed_eps: ClassVar = 1e-12
    settings: ClassVar = SETTINGS | Settings(
        "config.json",
        used={
            "dim": "width",
            "n_layers": "layers",
            "n_heads": "heads",
            "hidden_dim": "width of the feed-forward blocks",
            "activation": "activation",
        },
        harmless={
            "sinusoidal_pos_embds": "the tensors hold the positions, however they were made",
            "tie_weights_": "an early name of tie_word_embeddings, which nothing reads",
            "hidden_size": "dim says it",
            "num_hidden_layers": "n_layers says it",
            "num_attention_heads": "n_heads says it",
            "hidden_act": "activation says it",
            "type_vocab_size": "there are no token types",
            "layer_norm_eps": "it is always 1e-12",
        },
    )

    def make_head(self, kind: str, c: Config, names: Sequence[str]) -> Head:
        h = (self.hidden_size, "hidden")
        if kind == SEQUENCE:
            return sequence_head(h, self.labels, first="pre_classifier", activation="relu")
        if kind == TOKENS:
            return token_head(h, self.labels)
        if kind != MASKED:
            return span_head(h)
        tied, words = c.boolean("tie_word_embeddings", True), self.module_names.words + ".weight"
        last, unread = decoder(
            names, "vocab_projector.weight", ["vocab_projector.bias"], words, tied, (self.vocab_size, ""), h
        )
        self.harmless.update(unread)
        return masked_head(h, h, "vocab_transform", "vocab_layer_norm", self.eps, self.activation, last)

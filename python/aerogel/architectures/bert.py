"""BERT encoders (arXiv 1810.04805): plain, sequence classification and masked language model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from aerogel import _core
from aerogel.architectures.base import Architecture, Config, Role, Tensor, Weights, add_pooling
from aerogel.errors import ConfigError, UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.checkpoint import Pooling

log = logging.getLogger("aerogel")

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
#: config["architectures"][0] -> head
HEADS = {
    "BertModel": None,
    "BertForSequenceClassification": "classifier",
    "BertForMaskedLM": "mlm",
    "BertForPreTraining": "mlm",
}


class Bert(Architecture):
    """Outputs "hidden" [T, H], "pooled" and "embedding" [S, H] with a pooling, "scores" [S, labels] or "logits" [T, V]
    with such a head.
    """

    model_types: ClassVar = ("bert",)
    harmless: ClassVar = {
        r"embeddings\.position_ids": "positions are counted",
        r"pooler\..*": "nothing asks for the pooler's output",
        r"cls\.predictions\.decoder\.bias": "the same as cls.predictions.bias",
        r"cls\.predictions\.decoder\.weight": "tied to the word embeddings",
        r"cls\.seq_relationship\..*": "next sentence prediction is not offered",
    }

    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        c = Config(config)
        self.layers = c.integer("num_hidden_layers")
        self.hidden_size = c.integer("hidden_size")
        self.heads = c.integer("num_attention_heads")
        self.ffn = c.integer("intermediate_size")
        self.vocab_size = c.integer("vocab_size")
        self.max_positions = c.integer("max_position_embeddings")
        self.types = c.integer("type_vocab_size", 2)
        self.eps = c.number("layer_norm_eps", 1e-12)
        self.activation = c.choice("hidden_act", ACTIVATIONS, "gelu")
        c.choice("position_embedding_type", ["absolute"], "absolute")
        c.only("is_decoder", False)
        c.only("add_cross_attention", False)
        if self.hidden_size % self.heads:
            raise ConfigError(
                f"config: hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.heads}"
            )
        declared = c.architecture("BertModel")
        if declared not in HEADS:
            raise UnsupportedModelError(
                f"config: architectures: {declared!r} is not supported, only {', '.join(HEADS)}"
            )
        self.head = HEADS[declared]
        self.pooling = pooling
        if self.head == "mlm" and pooling is not None:
            log.info("the model has a pooling, so its masked language model head is not loaded")
            self.head = None
        self.harmless = dict(type(self).harmless)
        if self.head is None:
            self.harmless[r"cls\.predictions\..*"] = "masked language model head; the model is used for its embeddings"
        # Transformers ties the decoder to the embeddings unless the config says otherwise.
        self.tied = c.boolean("tie_word_embeddings", True) or "cls.predictions.decoder.weight" not in names
        self.labels = _label_count(config) if self.head == "classifier" else 0
        self.outputs = ("hidden",)
        if pooling is not None:
            self.outputs += ("embedding", "pooled")
        if self.head == "classifier":
            self.outputs += ("scores",)
        if self.head == "mlm":
            self.outputs += ("logits",)

    def tensors(self) -> list[Tensor]:
        h, f, v = self.hidden_size, self.ffn, self.vocab_size
        e = "embeddings."
        found = [
            Tensor(e + "word_embeddings.weight", (v, h), Role.EMBEDDING, "embeddings.tokens"),
            Tensor(e + "position_embeddings.weight", (self.max_positions, h), Role.EMBEDDING, "embeddings.positions"),
            Tensor(e + "token_type_embeddings.weight", (self.types, h), Role.EMBEDDING, "embeddings.types"),
            *_norm(e + "LayerNorm", h, "embeddings.norm"),
        ]
        for i in range(self.layers):
            t, n = f"encoder.layer.{i}.", f"layers.{i}."
            found += _linear(t + "attention.self.query", h, h, n + "attention.query")
            found += _linear(t + "attention.self.key", h, h, n + "attention.key")
            found += _linear(t + "attention.self.value", h, h, n + "attention.value")
            found += _linear(t + "attention.output.dense", h, h, n + "attention.out")
            found += _norm(t + "attention.output.LayerNorm", h, n + "attention.norm")
            found += _linear(t + "intermediate.dense", f, h, n + "ffn.up")
            found += _linear(t + "output.dense", h, f, n + "ffn.down")
            found += _norm(t + "output.LayerNorm", h, n + "ffn.norm")
        if self.head == "classifier":
            found += _linear("pooler.dense", h, h, "pooler", Role.HEAD)
            found += _linear("classifier", self.labels, h, "classifier", Role.HEAD)
        if self.head == "mlm":
            found += _linear("cls.predictions.transform.dense", h, h, "head.transform", Role.HEAD)
            found += _norm("cls.predictions.transform.LayerNorm", h, "head.norm")
            found.append(Tensor("cls.predictions.bias", (v,), Role.KEPT, "head.decoder.bias"))
            if not self.tied:
                found.append(Tensor("cls.predictions.decoder.weight", (v, h), Role.HEAD, "head.decoder"))
        return found

    def stacks(self) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []
        for i in range(self.layers):
            t = f"encoder.layer.{i}."
            found.append(tuple(t + f"attention.self.{x}.weight" for x in ("query", "key", "value")))
            found.append((t + "attention.output.dense.weight",))
            found.append((t + "intermediate.dense.weight",))
            found.append((t + "output.dense.weight",))
        return found

    def build(self, p: _core.Program, w: Weights) -> None:
        A, d = self.heads, self.hidden_size // self.heads

        def norm(name: str, x: int, tensor: str) -> int:
            return p.layer_norm(name, x, w.vector(tensor + ".weight"), w.vector(tensor + ".bias"), self.eps)

        def linear(name: str, x: int, *tensors: str) -> int:
            weights = [t + ".weight" for t in tensors]
            return p.linear(name, x, w.linear(*weights), w.vectors(*[t + ".bias" for t in tensors]))

        e = "embeddings."
        h = p.embed(  # [T, H]
            w.table(e + "word_embeddings.weight"),
            w.table(e + "position_embeddings.weight"),
            w.table(e + "token_type_embeddings.weight"),
        )
        h = norm("embeddings.norm", h, e + "LayerNorm")  # [T, H]
        for i in range(self.layers):
            t, n = f"encoder.layer.{i}.", f"layers.{i}."
            s = t + "attention.self."
            qkv = linear(n + "attention.qkv", h, s + "query", s + "key", s + "value")  # [T, 3H]
            a = p.attention(n + "attention", qkv, A, A, d, causal=False)  # [T, H]
            a = linear(n + "attention.out", a, t + "attention.output.dense")  # [T, H]
            h = norm(n + "attention.norm", p.add(h, a), t + "attention.output.LayerNorm")  # [T, H]
            f = p.activation(linear(n + "ffn.up", h, t + "intermediate.dense"), self.activation)  # [T, F]
            f = linear(n + "ffn.down", f, t + "output.dense")  # [T, H]
            h = norm(n + "ffn.norm", p.add(h, f), t + "output.LayerNorm")  # [T, H]
        p.output("hidden", h)  # [T, H]
        if self.pooling is not None:
            add_pooling(p, h, self.pooling)
        if self.head == "classifier":
            c = p.pool(h, "cls")  # [S, H]
            c = p.activation(linear("pooler", c, "pooler.dense"), "tanh")  # [S, H]
            p.output("scores", linear("classifier", c, "classifier"))  # [S, labels]
        if self.head == "mlm":
            m = linear("head.transform", h, "cls.predictions.transform.dense")  # [T, H]
            m = norm("head.norm", p.activation(m, self.activation), "cls.predictions.transform.LayerNorm")  # [T, H]
            decoder = e + "word_embeddings.weight" if self.tied else "cls.predictions.decoder.weight"
            m = p.linear("head.decoder", m, w.linear(decoder), w.vector("cls.predictions.bias"))  # [T, V]
            p.output("logits", m)
        p.set_max_positions(self.max_positions)


def _linear(tensor: str, n: int, k: int, label: str, role: Role = Role.LINEAR) -> list[Tensor]:
    return [Tensor(tensor + ".weight", (n, k), role, label), Tensor(tensor + ".bias", (n,), Role.KEPT, label + ".bias")]


def _norm(tensor: str, width: int, label: str) -> list[Tensor]:
    return [
        Tensor(tensor + ".weight", (width,), Role.KEPT, label),
        Tensor(tensor + ".bias", (width,), Role.KEPT, label + ".bias"),
    ]


def _label_count(config: Mapping[str, Any]) -> int:
    labels = config.get("id2label")
    return len(labels) if isinstance(labels, Mapping) and labels else Config(config).integer("num_labels", 2)

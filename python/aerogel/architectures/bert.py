"""BERT encoders (arXiv 1810.04805): plain, sequence classification and masked language model."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from aerogel.architectures.architecture import Architecture
from aerogel.architectures.config import Config
from aerogel.architectures.files import GGUFNames, GGUFSource, SavedNames
from aerogel.architectures.pooling import Pooling, add_pooling, pooling_stacks, pooling_tensors
from aerogel.architectures.settings import CONFIG, Refused, Settings
from aerogel.architectures.tensors import Fold, Role, Tensor
from aerogel.errors import UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value

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


def _finish_gguf(file: GGUFSource, config: dict[str, Any]) -> None:
    types = file.tensors.get("token_types.weight")
    config["type_vocab_size"] = 1 if types is None else types.shape[0]  # llama.cpp adds none then, which is zeros


_GGUF_BLOCKS = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
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
        "architectures": ["BertModel"],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute",
    },
    tensors={
        "token_embd.weight": "embeddings.word_embeddings.weight",
        "position_embd.weight": "embeddings.position_embeddings.weight",
        "token_types.weight": "embeddings.token_type_embeddings.weight",
        "token_embd_norm.weight": "embeddings.LayerNorm.weight",
        "token_embd_norm.bias": "embeddings.LayerNorm.bias",
    },
    blocks={
        f"{short}.{part}": f"encoder.layer.{{n}}.{long}.{part}"
        for short, long in _GGUF_BLOCKS.items()
        for part in ("weight", "bias")
    },
    finish=_finish_gguf,
    zeros={"embeddings.token_type_embeddings.weight": ("type_vocab_size", "hidden_size")},
)

SETTINGS = CONFIG | Settings(
    "config.json",
    used={
        "num_hidden_layers": "layers",
        "hidden_size": "width",
        "num_attention_heads": "heads",
        "head_dim": "aerogel's: width of a head where heads were pruned",
        "intermediate_size": "width of the feed-forward blocks",
        "max_position_embeddings": "rows of the position embeddings",
        "type_vocab_size": "rows of the token type embeddings",
        "layer_norm_eps": "layer norm",
        "hidden_act": "activation",
        "position_embedding_type": "only absolute",
        "is_decoder": "only false",
        "add_cross_attention": "only false",
        "id2label": "how many scores a classifier has",
        "num_labels": "how many scores a classifier has",
        "label2id": "names of classes in evaluations",
    },
    refused={
        "embedding_size": Refused("embeddings narrower than the hidden states", ()),
        "attention_window": Refused("windowed attention", ()),
        "is_causal": Refused("attention to what stands before only"),
        "num_hidden_groups": Refused("layers that share weights", ()),
    },
)


class Bert(Architecture):
    """Outputs "hidden" [T, H], "pooled" and "embedding" [S, H] with a pooling, "scores" [S, labels] or "logits" [T, V]
    with such a head.
    """

    model_types: ClassVar = ("bert",)
    harmless = {
        r"embeddings\.position_ids": "positions are counted",
        r"pooler\..*": "nothing asks for the pooler's output",
        r"cls\.predictions\.decoder\.weight": "tied to the word embeddings",
        r"cls\.seq_relationship\..*": "next sentence prediction is not offered",
    }

    layer_prefix: ClassVar = "encoder.layer.{}."
    saved: ClassVar = {
        "bert": SavedNames(
            base_class="BertModel",
            prefix="bert.",
            parts=("embeddings.", "encoder.", "pooler."),
            renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},  # BERT's first form
            tied={"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight"},
            classifier="BertForSequenceClassification",
        )
    }
    gguf: ClassVar = {"bert": GGUF}
    wordpiece: ClassVar = True
    settings: ClassVar = SETTINGS
    heads_fill_hidden: ClassVar = True

    @classmethod
    def default_pooling(cls, config: Mapping[str, Any]) -> Pooling | None:
        # a head says what the model is for; without one it is an encoder
        return Pooling(("mean",), normalize=False) if Config(config).architecture("BertModel") == "BertModel" else None

    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        c = Config(config)
        self.layers = c.integer("num_hidden_layers")
        self.hidden_size = c.integer("hidden_size")
        self.heads = self.kv_heads = c.per_layer("num_attention_heads", self.layers)
        self.head_dim = c.head_dim(self.hidden_size)
        self.ffn = c.per_layer("intermediate_size", self.layers)
        self.vocab_size = c.integer("vocab_size")
        self.max_positions = c.integer("max_position_embeddings")
        self.types = c.integer("type_vocab_size", 2)
        self.eps = c.number("layer_norm_eps", 1e-12)
        self.activation = c.choice("hidden_act", ACTIVATIONS, "gelu")
        c.choice("position_embedding_type", ["absolute"], "absolute")
        c.only("is_decoder", False)
        c.only("add_cross_attention", False)
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
        self._decoder_bias, other = "cls.predictions.bias", "cls.predictions.decoder.bias"
        # One tensor under two names, of which a file may have either; an untied decoder has a bias of its own.
        if other in names and (not self.tied or self._decoder_bias not in names):
            self._decoder_bias, other = other, self._decoder_bias
        self.harmless[re.escape(other)] = f"the same as {self._decoder_bias}, or not used where that is there"
        self.labels = _label_count(config) if self.head == "classifier" else 0
        self.outputs = ("hidden",)
        if pooling is not None:
            self.outputs += ("embedding", "pooled")
        if self.head == "classifier":
            self.outputs += ("scores",)
        if self.head == "mlm":
            self.outputs += ("logits",)

    def tensors(self) -> list[Tensor]:
        h, v = (self.hidden_size, "hidden"), (self.vocab_size, "")
        e = "embeddings."
        found = [
            Tensor.over(e + "word_embeddings.weight", "embeddings.tokens", Role.EMBEDDING, v, h),
            Tensor.over(
                e + "position_embeddings.weight", "embeddings.positions", Role.EMBEDDING, (self.max_positions, ""), h
            ),
            Tensor.over(e + "token_type_embeddings.weight", "embeddings.types", Role.EMBEDDING, (self.types, ""), h),
            *_norm(e + "LayerNorm", h, "embeddings.norm"),
        ]
        for i in range(self.layers):
            t, n = f"encoder.layer.{i}.", f"layers.{i}."
            q = (self.heads[i] * self.head_dim, n + "attention.queries")
            k = (self.heads[i] * self.head_dim, n + "attention.keys")
            f = (self.ffn[i], n + "ffn")
            if self.heads[i]:
                found += _linear(t + "attention.self.query", q, h, n + "attention.query")
                found += _linear(t + "attention.self.key", k, h, n + "attention.key")
                found += _linear(t + "attention.self.value", k, h, n + "attention.value")
            found += _linear(t + "attention.output.dense", h, q, n + "attention.out")
            found += _norm(t + "attention.output.LayerNorm", h, n + "attention.norm")
            if self.ffn[i]:
                found += _linear(t + "intermediate.dense", f, h, n + "ffn.up")
            found += _linear(t + "output.dense", h, f, n + "ffn.down")
            found += _norm(t + "output.LayerNorm", h, n + "ffn.norm")
        found += pooling_tensors(self.pooling, self.hidden_size)
        if self.head == "classifier":
            found += _linear("pooler.dense", h, h, "pooler", Role.HEAD)
            found += _linear("classifier", (self.labels, ""), h, "classifier", Role.HEAD)
        if self.head == "mlm":
            found += _linear("cls.predictions.transform.dense", h, h, "head.transform", Role.HEAD)
            found += _norm("cls.predictions.transform.LayerNorm", h, "head.norm")
            found.append(Tensor.over(self._decoder_bias, "head.decoder.bias", Role.KEPT, v))
            if not self.tied:
                found.append(Tensor.over("cls.predictions.decoder.weight", "head.decoder", Role.HEAD, v, h))
        return found

    def stacks(self) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []
        for i in range(self.layers):
            t = f"encoder.layer.{i}."
            if self.heads[i]:
                found.append(tuple(t + f"attention.self.{x}.weight" for x in ("query", "key", "value")))
                found.append((t + "attention.output.dense.weight",))
            if self.ffn[i]:
                found.append((t + "intermediate.dense.weight",))
                found.append((t + "output.dense.weight",))
        return found + pooling_stacks(self.pooling)

    def folds(self) -> list[Fold]:
        # What a norm makes is also added to the next block's result, and GELU is not linear: only values are left.
        found: list[Fold] = []
        for i in range(self.layers):
            if self.heads[i]:
                t = f"encoder.layer.{i}.attention."
                values = (t + "self.value.weight", t + "self.value.bias")
                found.append(Fold((t + "output.dense.weight",), values))
        return found

    def build(self, p: Program, w: Parameters) -> None:
        d = self.head_dim

        def norm(name: str, x: Value, tensor: str, *constants: str) -> Value:
            # A block that has lost all its heads or channels is only its bias, and that is added to the norm before it.
            bias = sum(map(w.vector, constants), w.vector(tensor + ".bias"))
            return p.layer_norm(name, x, w.vector(tensor + ".weight"), bias, self.eps)

        def linear(name: str, x: Value, *tensors: str) -> Value:
            weights = [t + ".weight" for t in tensors]
            biases = w.vectors(*[t + ".bias" for t in tensors])
            return p.linear(name, x, w.linear(*weights), biases, limit=w.limit(*weights))

        e = "embeddings."
        h = p.embed(  # [T, H]
            w.table(e + "word_embeddings.weight"),
            w.table(e + "position_embeddings.weight"),
            w.table(e + "token_type_embeddings.weight"),
        )
        without_heads = [
            [] if A else [f"encoder.layer.{i}.attention.output.dense.bias"] for i, A in enumerate(self.heads)
        ]
        h = norm("embeddings.norm", h, e + "LayerNorm", *without_heads[0])  # [T, H]
        for i, A in enumerate(self.heads):
            t, n = f"encoder.layer.{i}.", f"layers.{i}."
            s = t + "attention.self."
            self._trace(p, i, h)
            if A:
                qkv = linear(n + "attention.qkv", h, s + "query", s + "key", s + "value")  # [T, 3 A d]
                a = p.attention(n + "attention", qkv, A, A, d, causal=False)  # [T, A d]
                h = p.add(h, linear(n + "attention.out", a, t + "attention.output.dense"))  # [T, H]
            without_ffn = [] if self.ffn[i] else [t + "output.dense.bias"]
            h = norm(n + "attention.norm", h, t + "attention.output.LayerNorm", *without_ffn)  # [T, H]
            if self.ffn[i]:
                f = p.activation(linear(n + "ffn.up", h, t + "intermediate.dense"), self.activation)  # [T, F]
                h = p.add(h, linear(n + "ffn.down", f, t + "output.dense"))  # [T, H]
            following = without_heads[i + 1] if i + 1 < self.layers else []
            h = norm(n + "ffn.norm", h, t + "output.LayerNorm", *following)  # [T, H]
        self._trace(p, self.layers, h)
        p.output("hidden", h)  # [T, H]
        if self.pooling is not None:
            add_pooling(p, w, h, self.pooling)
        if self.head == "classifier":
            c = p.pool(h, ("cls",))  # [S, H]
            c = p.activation(linear("pooler", c, "pooler.dense"), "tanh")  # [S, H]
            p.output("scores", linear("classifier", c, "classifier"))  # [S, labels]
        if self.head == "mlm":
            m = linear("head.transform", h, "cls.predictions.transform.dense")  # [T, H]
            m = norm("head.norm", p.activation(m, self.activation), "cls.predictions.transform.LayerNorm")  # [T, H]
            decoder = e + "word_embeddings.weight" if self.tied else "cls.predictions.decoder.weight"
            bias = w.vector(self._decoder_bias)
            m = p.linear("head.decoder", m, w.linear(decoder), bias, limit=w.limit(decoder))  # [T, V]
            p.output("logits", m)
        p.set_max_positions(self.max_positions)


def _linear(tensor: str, n: tuple[int, str], k: tuple[int, str], label: str, role: Role = Role.LINEAR) -> list[Tensor]:
    bias = Tensor.over(tensor + ".bias", label + ".bias", Role.KEPT, n)
    return [Tensor.over(tensor + ".weight", label, role, n, k), bias] if k[0] else [bias]


def _norm(tensor: str, width: tuple[int, str], label: str) -> list[Tensor]:
    return [
        Tensor.over(tensor + ".weight", label, Role.KEPT, width),
        Tensor.over(tensor + ".bias", label + ".bias", Role.KEPT, width),
    ]


def _label_count(config: Mapping[str, Any]) -> int:
    labels = config.get("id2label")
    return len(labels) if isinstance(labels, Mapping) and labels else Config(config).integer("num_labels", 2)

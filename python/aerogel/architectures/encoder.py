"""What encoders of BERT's kind share: embeddings, post-norm layers, a head. A family says its names and its differences."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from aerogel.architectures.architecture import Architecture
from aerogel.architectures.config import Config
from aerogel.architectures.heads import MASKED, SEQUENCE, TOKENS, Axis, Head, head_kind, label_count
from aerogel.architectures.pooling import Pooling, add_pooling, pooling_stacks, pooling_tensors
from aerogel.architectures.settings import CONFIG, Refused, Settings
from aerogel.architectures.tensors import Fold, Role, Tensor
from aerogel.architectures.token_heads import KEY, token_heads
from aerogel.errors import ConfigError

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
        "id2label": "names of a classifier's scores",
        "num_labels": "how many scores a classifier has",
        "label2id": "names of classes in evaluations",
        KEY: "aerogel's: linears that make a vector of each token",
    },
    harmless={"problem_type": "the loss of training: scores are returned as they are"},
    refused={
        "embedding_size": Refused("embeddings narrower than the hidden states", ()),
        "attention_window": Refused("windowed attention", ()),
        "is_causal": Refused("attention to what stands before only"),
        "num_hidden_groups": Refused("layers that share weights", ()),
    },
)


@dataclass(frozen=True)
class Names:
    """What a family calls its modules: those of a layer behind the layer's prefix.

    Attributes:
        words: the token embeddings.
        positions: the position embeddings, or None.
        types: the token type embeddings, or None.
        norm: the norm of their sum.
        projection: the linear from them to the hidden states, where they are narrower.
        query: and the others of a layer, in the order of use.
    """

    words: str = "embeddings.word_embeddings"
    positions: str | None = "embeddings.position_embeddings"
    types: str | None = "embeddings.token_type_embeddings"
    norm: str = "embeddings.LayerNorm"
    projection: str = "embeddings_project"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    out: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    ffn_norm: str = "output.LayerNorm"


class Encoder(Architecture):
    """Outputs "hidden" [T, H]; "embedding" and "pooled" [S, H] with a pooling; and what its head gives (`heads.Head`)."""

    #: Class name in a config -> kind of head; the first is that of a config that names none.
    classes: ClassVar[Mapping[str, str | None]]
    modules: ClassVar[Names] = Names()
    layer_prefix: ClassVar = "encoder.layer.{}."
    settings: ClassVar[Settings] = SETTINGS
    heads_fill_hidden: ClassVar = True
    harmless = {
        r"embeddings\.position_ids": "positions are counted",
        r"pooler\..*": "nothing asks for the pooler's output",
    }
    #: A config's word for the activation -> the engine's.
    activations: ClassVar[Mapping[str, str]] = ACTIVATIONS
    #: The kinds of position embeddings that are the family's.
    position_kinds: ClassVar[Sequence[str]] = ("absolute",)
    #: Kinds of tokens where the config is silent, and the fewest there may be.
    type_counts: ClassVar[tuple[int, int]] = (2, 1)
    #: Of all norms, where the config does not say it.
    fixed_eps: ClassVar[float | None] = None
    #: The tensors of heads that are not loaded where a pooling says what the model is for, as regular expressions.
    masked_tensors: ClassVar[str] = r"cls\.predictions\..*"

    @classmethod
    def default_pooling(cls, config: Mapping[str, Any]) -> Pooling | None:
        # a head says what the model is for; without one it is an encoder
        declared = Config(config).architecture(None)
        plain = declared is None or cls.classes.get(declared, "unknown") is None
        plain = plain and not any(head.output == "tokens" for head in token_heads(config, (1, "hidden")))
        return Pooling(("mean",), normalize=False) if plain else None

    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        c = Config(config, self.config_names)
        #: `modules`, or what a config makes of them.
        self.module_names: Names = type(self).modules
        self.layers = self.count_layers(c)
        self.hidden_size = c.integer("hidden_size")
        self.heads = self.kv_heads = c.per_layer("num_attention_heads", self.layers)
        if self.numbered_heads and len(set(self.heads)) > 1:
            raise ConfigError(
                f"config: attention_heads: expected as many in every layer, as they are told apart, got {self.heads}"
            )
        self.head_dim = c.head_dim(self.hidden_size)
        self.ffn = c.per_layer("intermediate_size", self.layers)
        self.vocab_size = c.integer("vocab_size")
        self.positions = c.integer("max_position_embeddings")
        #: Rows of the position embeddings before that of the first token.
        self.offset = 0
        self.types = c.integer("type_vocab_size", *self.type_counts) if self.module_names.types else 0
        self.eps = self.fixed_eps or c.number("layer_norm_eps", 1e-12)
        self.activation = c.choice("hidden_act", self.activations, "gelu")
        #: The width of the embeddings.
        self.width: Axis = (self.hidden_size, "hidden")
        c.choice("position_embedding_type", self.position_kinds, self.position_kinds[0])
        c.only("is_decoder", False)
        c.only("add_cross_attention", False)
        self.harmless = dict(type(self).harmless)
        self.configure(c)
        self.max_positions = self.positions - self.offset
        self.pooling = pooling
        kind = head_kind(c, self.classes, pooling is not None)
        if kind == MASKED and pooling is not None:
            log.info("the model has a pooling, so its masked language model head is not loaded")
            kind = None
        if kind is None:
            self.harmless[self.masked_tensors] = "masked language model head; the model is used for its embeddings"
        self.labels = label_count(config) if kind in (SEQUENCE, TOKENS) else 0
        self.head = None if kind is None else self.make_head(kind, c, names)
        self.token_heads = token_heads(config, (self.hidden_size, "hidden"))
        self.outputs = ("hidden", *(head.output for head in self.token_heads))
        if pooling is not None:
            self.outputs += ("embedding", "pooled")
        if self.head is not None:
            self.outputs += self.head.outputs

    def count_layers(self, c: Config) -> int:
        """How many layers are run."""
        return c.integer("num_hidden_layers")

    def configure(self, c: Config) -> None:
        """Reads what is the family's own, and changes what it computes otherwise."""

    def make_head(self, kind: str, c: Config, names: Sequence[str]) -> Head:
        """The head of this kind; `names` are the checkpoint's tensors."""
        raise NotImplementedError

    @property
    def narrow(self) -> bool:
        """Whether the embeddings have a width of their own, and a linear to the hidden states."""
        return self.width[1] != "hidden"

    def tensors(self) -> list[Tensor]:
        h, m = (self.hidden_size, "hidden"), self.module_names
        tables = [(m.words, self.vocab_size, "tokens")]
        if m.positions is not None:
            tables.append((m.positions, self.positions, "positions"))
        if m.types is not None:
            tables.append((m.types, self.types, "types"))
        found = [
            Tensor.over(name + ".weight", f"embeddings.{label}", Role.EMBEDDING, (rows, ""), self.width)
            for name, rows, label in tables
        ]
        found += norm_tensors(m.norm, self.width, "embeddings.norm")
        if self.narrow:
            found += linear_tensors(m.projection, h, self.width, "embeddings.projection", Role.HEAD)
        for i in self.own_layers():
            found += self.layer_tensors(i)
        found += pooling_tensors(self.pooling, self.hidden_size)
        for head in self.token_heads:
            found += head.tensors()
        return found + (self.head.tensors() if self.head is not None else [])

    def layer_tensors(self, i: int) -> list[Tensor]:
        """The parameters of one layer."""
        t, n, m, h = self.prefix(i), f"layers.{i}.", self.module_names, (self.hidden_size, "hidden")
        q = (self.heads[i] * self.head_dim, n + "attention.queries")
        k = (self.heads[i] * self.head_dim, n + "attention.keys")
        f = (self.ffn[i], n + "ffn")
        found: list[Tensor] = []
        if self.heads[i]:
            found += linear_tensors(t + m.query, q, h, n + "attention.query")
            found += linear_tensors(t + m.key, k, h, n + "attention.key")
            found += linear_tensors(t + m.value, k, h, n + "attention.value")
        found += linear_tensors(t + m.out, h, q, n + "attention.out")
        found += norm_tensors(t + m.attention_norm, h, n + "attention.norm")
        if self.ffn[i]:
            found += linear_tensors(t + m.up, f, h, n + "ffn.up")
        found += linear_tensors(t + m.down, h, f, n + "ffn.down")
        return found + norm_tensors(t + m.ffn_norm, h, n + "ffn.norm")

    def stacks(self) -> list[tuple[str, ...]]:
        m = self.module_names
        found: list[tuple[str, ...]] = [(m.projection + ".weight",)] if self.narrow else []
        for i in range(self.layers):
            t = self.prefix(i)
            if self.heads[i]:
                found.append(tuple(f"{t}{x}.weight" for x in (m.query, m.key, m.value)))
                found.append((f"{t}{m.out}.weight",))
            if self.ffn[i]:
                found += [(f"{t}{m.up}.weight",), (f"{t}{m.down}.weight",)]
        return found + pooling_stacks(self.pooling)

    def folds(self) -> list[Fold]:
        # What a norm makes is also added to the next block's result, and GELU is not linear: only values are left.
        m = self.module_names
        found: list[Fold] = []
        for i in self.own_layers():
            if self.heads[i]:
                t = self.prefix(i)
                found.append(Fold((f"{t}{m.out}.weight",), (f"{t}{m.value}.weight", f"{t}{m.value}.bias")))
        return found

    def build(self, p: Program, w: Parameters) -> None:
        h = self._embed(p, w)  # [T, H]
        for i in range(self.layers):
            self._trace(p, i, h)
            h = self._layer(p, w, i, h)  # [T, H]
        self._trace(p, self.layers, h)
        h = self.finish(p, w, h)  # [T, H]
        p.output("hidden", h)  # [T, H]
        if self.pooling is not None:
            add_pooling(p, w, h, self.pooling)
        for head in self.token_heads:
            head.add(p, w, h)
        if self.head is not None:
            self.head.add(p, w, h)
        p.set_max_positions(self.max_positions)

    def projected(self, p: Program, w: Parameters, i: int, h: Value) -> Value:
        """[T, H] -> [T, 3 A d] = q | k | v of layer i."""
        m, t = self.module_names, self.prefix(i)
        return self._linear(p, w, f"layers.{i}.attention.qkv", h, t + m.query, t + m.key, t + m.value)

    def attention(self, p: Program, w: Parameters, i: int, qkv: Value) -> Value:
        """[T, 3 A d] -> [T, A d] of layer i."""
        return p.attention(f"layers.{i}.attention", qkv, self.heads[i], self.heads[i], self.head_dim, causal=False)

    def finish(self, p: Program, w: Parameters, h: Value) -> Value:
        """[T, H] -> [T, H]: what stands behind the layers."""
        return h

    def _embed(self, p: Program, w: Parameters) -> Value:
        m = self.module_names
        types = w.table(m.types + ".weight") if m.types is not None else None
        positions = w.table(m.positions + ".weight") if m.positions is not None else None
        h = p.embed(w.table(m.words + ".weight"), positions, types, self.offset)
        if not self.narrow:
            return self._norm(p, w, "embeddings.norm", h, m.norm, self._without_heads(0))  # [T, H]
        h = self._norm(p, w, "embeddings.norm", h, m.norm, [])  # [T, E]
        return self._linear(p, w, "embeddings.projection", h, m.projection, more=self._without_heads(0))  # [T, H]

    def _layer(self, p: Program, w: Parameters, i: int, h: Value) -> Value:
        m, t, n = self.module_names, self.prefix(i), f"layers.{i}."
        if self.heads[i]:
            a = self.attention(p, w, i, self.projected(p, w, i, h))  # [T, A d]
            h = p.add(h, self._linear(p, w, n + "attention.out", a, t + m.out))  # [T, H]
        without_ffn = [] if self.ffn[i] else [f"{t}{m.down}.bias"]
        h = self._norm(p, w, n + "attention.norm", h, t + m.attention_norm, without_ffn)  # [T, H]
        if self.ffn[i]:
            f = p.activation(self._linear(p, w, n + "ffn.up", h, t + m.up), self.activation)  # [T, F]
            h = p.add(h, self._linear(p, w, n + "ffn.down", f, t + m.down))  # [T, H]
        following = self._without_heads(i + 1) if i + 1 < self.layers else []
        return self._norm(p, w, n + "ffn.norm", h, t + m.ffn_norm, following)  # [T, H]

    def _without_heads(self, i: int) -> list[str]:
        """A block that has lost all its heads or channels is only its bias, and that is added to what stands before it."""
        return [] if self.heads[i] else [f"{self.prefix(i)}{self.module_names.out}.bias"]

    def _norm(self, p: Program, w: Parameters, name: str, x: Value, tensor: str, more: Sequence[str]) -> Value:
        bias = sum(map(w.vector, more), w.vector(tensor + ".bias"))
        return p.layer_norm(name, x, w.vector(tensor + ".weight"), bias, self.eps)

    @staticmethod
    def _linear(p: Program, w: Parameters, name: str, x: Value, *tensors: str, more: Sequence[str] = ()) -> Value:
        weights = [t + ".weight" for t in tensors]
        bias = sum(map(w.vector, more), w.vectors(*[t + ".bias" for t in tensors]))
        return p.linear(name, x, w.linear(*weights), bias, limit=w.limit(*weights))


def linear_tensors(tensor: str, n: Axis, k: Axis, label: str, role: Role = Role.LINEAR) -> list[Tensor]:
    """Weight and bias of a linear; the bias alone where the linear has lost all its inputs."""
    bias = Tensor.over(tensor + ".bias", label + ".bias", Role.KEPT, n)
    return [Tensor.over(tensor + ".weight", label, role, n, k), bias] if k[0] else [bias]


def norm_tensors(tensor: str, width: Axis, label: str) -> list[Tensor]:
    """Weight and bias of a layer norm."""
    return [
        Tensor.over(tensor + ".weight", label, Role.KEPT, width),
        Tensor.over(tensor + ".bias", label + ".bias", Role.KEPT, width),
    ]

"""Decoders of the time before rotary embeddings: learned positions, layer norms before the blocks, biases, no gates."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from aerogel.architectures.architecture import Architecture
from aerogel.architectures.config import PER_LAYER, Config, is_folded
from aerogel.architectures.encoder import ACTIVATIONS, linear_tensors, norm_tensors
from aerogel.architectures.heads import (
    SEQUENCE,
    SPANS,
    TOKENS,
    label_count,
    last_token_head,
    pad_token,
    span_head,
    token_head,
)
from aerogel.architectures.pooling import Pooling, add_pooling, pooling_stacks, pooling_tensors
from aerogel.architectures.tensors import Fold, Role, Tensor
from aerogel.errors import ConfigError, UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value

log = logging.getLogger("aerogel")

_HEAD = "lm_head.weight"


class Names(NamedTuple):
    """What a family calls its modules; those of a layer behind `layer_prefix`."""

    words: str
    positions: str
    norm: str
    attention_norm: str
    queries_keys_values: tuple[str, str, str]
    out: str
    ffn_norm: str
    up: str
    down: str


class LearnedDecoder(Architecture):
    """Outputs "logits" [T, V] (or of each sequence's last token only), "scores" [S, labels] of the last token,
    "token_scores" [T, labels] or "spans" [T, 2] with such a head, "hidden" [T, H], and with a pooling "pooled" and
    "embedding" [S, H].
    """

    #: The class with logits, and the one without.
    classes: ClassVar[tuple[str, str]]
    #: The classes with other heads -> their kinds.
    headed: ClassVar[Mapping[str, str]]
    default_pad: ClassVar[int | None] = None
    modules: ClassVar[Names]
    #: Rows of the position embeddings before that of the first token.
    offset: ClassVar[int] = 0
    default_activation: ClassVar[str]
    #: Of all norms, where the config does not say it.
    fixed_eps: ClassVar[float | None] = None
    heads_fill_hidden: ClassVar = True
    byte_level: ClassVar = dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>")

    @abstractmethod
    def default_ffn(self) -> int | None:
        """The width of the feed-forward blocks where the config is silent; None: it has to say it."""

    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        c = Config(config, self.config_names)
        self.layers = c.integer("num_hidden_layers")
        self.hidden_size = c.integer("hidden_size")
        self.heads = self.kv_heads = c.per_layer("num_attention_heads", self.layers)
        self.head_dim = c.head_dim(self.hidden_size)
        width = self.default_ffn()
        self.ffn = c.per_layer("intermediate_size", self.layers, None if width is None else (width,) * self.layers)
        for key, widths in (("num_attention_heads", self.heads), ("intermediate_size", self.ffn)):
            if not min(widths):
                raise ConfigError(
                    f"config: {PER_LAYER[key]}: expected at least 1 in every layer, as its output has a bias, got 0"
                )
        self.vocab_size = c.integer("vocab_size")
        self.max_positions = c.integer("max_position_embeddings")
        self.eps = self.fixed_eps or c.number("layer_norm_epsilon", 1e-5)
        self.activation = c.choice("activation_function", ACTIVATIONS, self.default_activation)
        self.pooling = pooling
        self._read_head(c, names)
        # As in other decoders: behind norms and activations some channels are far larger than the rest.
        self._folded = is_folded(config)

    def _read_head(self, c: Config, names: Sequence[str]) -> None:
        declared = c.architecture(self.classes[0])
        if declared not in (*self.classes, *self.headed):
            known = ", ".join([*self.classes, *self.headed])
            raise UnsupportedModelError(f"config: architectures: {declared!r} is not supported, only {known}")
        self._add_head(self.headed.get(declared or ""), c)
        tied = c.boolean("tie_word_embeddings", True)
        self.has_logits = declared == self.classes[0]
        if self.has_logits and not tied and _HEAD not in names and self.pooling is not None:
            log.info("the model has a pooling and no lm_head.weight: it is used for its embeddings")
            self.has_logits = False
        self.tied = self.has_logits and tied
        self.generates = self.has_logits
        self.outputs = ("logits", "hidden") if self.has_logits else ("hidden",)
        if self.pooling is not None:
            self.outputs += ("embedding", "pooled")
        if self.head is not None:
            self.outputs += (self.head.output,)
        self.harmless = dict(type(self).harmless)
        if self.tied:
            self.harmless[r"lm_head\.weight"] = "tied to the token embeddings"
        if not self.has_logits:
            self.harmless[r"lm_head\.weight"] = "the model is used without its logits"

    def _add_head(self, kind: str | None, c: Config) -> None:
        h = (self.hidden_size, "hidden")
        if kind in (SEQUENCE, TOKENS):
            self.labels = label_count(c.values)
            self.head = last_token_head(h, self.labels) if kind == SEQUENCE else token_head(h, self.labels)
        elif kind == SPANS:
            self.head = span_head(h)
        if kind == SEQUENCE:
            self.pad_id = pad_token(c.values, self.default_pad)

    def least_width(self, block: str) -> int:
        return 1  # a block's output has a bias

    def tensors(self) -> list[Tensor]:
        h, v, m = (self.hidden_size, "hidden"), (self.vocab_size, ""), self.modules
        rows = (self.max_positions + self.offset, "")
        found = [
            Tensor.over(m.words + ".weight", "embeddings.tokens", Role.EMBEDDING, v, h),
            Tensor.over(m.positions + ".weight", "embeddings.positions", Role.EMBEDDING, rows, h),
        ]
        for i in range(self.layers):
            t, n = self.layer_prefix.format(i), f"layers.{i}."
            q, k = ((self.heads[i] * self.head_dim, n + f"attention.{x}") for x in ("queries", "keys"))
            f = (self.ffn[i], n + "ffn")
            found += norm_tensors(t + m.attention_norm, h, n + "attention.norm")
            for name, label, width in zip(m.queries_keys_values, ("query", "key", "value"), (q, k, k), strict=True):
                found += linear_tensors(t + name, width, h, n + "attention." + label)
            found += linear_tensors(t + m.out, h, q, n + "attention.out")
            found += norm_tensors(t + m.ffn_norm, h, n + "ffn.norm")
            found += linear_tensors(t + m.up, f, h, n + "ffn.up")
            found += linear_tensors(t + m.down, h, f, n + "ffn.down")
        found += norm_tensors(m.norm, h, "norm")
        if self.has_logits and not self.tied:
            found.append(Tensor.over(_HEAD, "head", Role.HEAD, v, h))
        found += self.head.tensors() if self.head is not None else []
        return found + pooling_tensors(self.pooling, self.hidden_size)

    def _stacks_of(self, i: int) -> tuple[tuple[str, ...], ...]:
        """Queries with keys and values, attention's output, what goes into the feed-forward block, what comes out."""
        t, m = self.layer_prefix.format(i), self.modules
        return tuple(
            tuple(f"{t}{name}.weight" for name in names)
            for names in (m.queries_keys_values, (m.out,), (m.up,), (m.down,))
        )

    def stacks(self) -> list[tuple[str, ...]]:
        found = [stack for i in range(self.layers) for stack in self._stacks_of(i)]
        if self.has_logits:
            found.append((self.modules.words + ".weight" if self.tied else _HEAD,))
        return found + pooling_stacks(self.pooling)

    def folds(self) -> list[Fold]:
        found: list[Fold] = []
        m = self.modules
        for i in range(self.layers):
            t = self.layer_prefix.format(i)
            qkv, out, up, down = self._stacks_of(i)
            found.append(Fold(qkv, _both(t + m.attention_norm)))
            found.append(Fold(out, _both(t + m.queries_keys_values[2])))
            found.append(Fold(up, _both(t + m.ffn_norm)))
            if self._down_folds:
                found.append(Fold(down, _both(t + m.up)))
        return found

    @property
    def _down_folds(self) -> bool:
        return self.activation == "relu"  # relu(x / s) is relu(x) / s for a positive s

    def _terms(self, folds: bool) -> int:
        """Of a linear's input, which compression can or cannot have rid of its outliers."""
        return 1 if self._folded and folds else 2

    def build(self, p: Program, w: Parameters) -> None:
        m = self.modules
        h = p.embed(w.table(m.words + ".weight"), w.table(m.positions + ".weight"), None, self.offset)  # [T, H]
        for i, A in enumerate(self.heads):
            t, n = self.layer_prefix.format(i), f"layers.{i}."
            self._trace(p, i, h)
            x = self._norm(p, w, n + "attention.norm", h, t + m.attention_norm)  # [T, H]
            names = [t + name for name in m.queries_keys_values]
            qkv = self._linear(p, w, n + "attention.qkv", x, *names, terms=self._terms(True))  # [T, 3 A d]
            a = p.attention(n + "attention", qkv, A, A, self.head_dim, causal=True)  # [T, A d]
            h = p.add(h, self._linear(p, w, n + "attention.out", a, t + m.out, terms=1))  # [T, H]
            x = self._norm(p, w, n + "ffn.norm", h, t + m.ffn_norm)  # [T, H]
            f = self._linear(p, w, n + "ffn.up", x, t + m.up, terms=self._terms(True))  # [T, F]
            f = p.activation(f, self.activation)
            h = p.add(h, self._linear(p, w, n + "ffn.down", f, t + m.down, terms=self._terms(self._down_folds)))
        self._trace(p, self.layers, h)
        h = self._norm(p, w, "norm", h, m.norm)  # [T, H]
        p.output("hidden", h)
        if self.pooling is not None:
            add_pooling(p, w, h, self.pooling)
        if self.has_logits:
            head = m.words + ".weight" if self.tied else _HEAD
            limit = w.limit(head)
            y = p.linear("head", p.select_last(h), w.linear(head), None, terms=1 if limit else 2, limit=limit)
            p.output("logits", y)  # [T, V], or [S, V] when only the last tokens are wanted
        if self.head is not None:
            self.head.add(p, w, h)
        p.set_max_positions(self.max_positions)

    def _norm(self, p: Program, w: Parameters, name: str, x: Value, tensor: str) -> Value:
        weight, bias = map(w.vector, _both(tensor))
        return p.layer_norm(name, x, weight, bias, self.eps)

    @staticmethod
    def _linear(p: Program, w: Parameters, name: str, x: Value, *tensors: str, terms: int) -> Value:
        weights, biases = [t + ".weight" for t in tensors], [t + ".bias" for t in tensors]
        limit = w.limit(*weights)  # a fixed scale has one term
        return p.linear(name, x, w.linear(*weights), w.vectors(*biases), terms=1 if limit else terms, limit=limit)


def _both(tensor: str) -> tuple[str, str]:
    return tensor + ".weight", tensor + ".bias"

"""DeBERTa encoders of the second and third version (arXiv 2006.03654, 2111.09543): attention of contents and positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aerogel.architectures.config import Config
from aerogel.architectures.encoder import ACTIVATIONS, SETTINGS, Encoder, Names, linear_tensors, norm_tensors
from aerogel.architectures.files import SavedNames
from aerogel.architectures.heads import (
    MASKED,
    SEQUENCE,
    TOKENS,
    Head,
    Linear,
    classes,
    decoder,
    masked_head,
    sequence_head,
    span_head,
    token_head,
)
from aerogel.architectures.settings import Refused, Settings
from aerogel.architectures.tensors import Role, Tensor
from aerogel.errors import ConfigError, UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value, Vector

_UNUSED = r"embeddings\.position_embeddings\..*"
_POSITIONS, _NORM = "encoder.rel_embeddings.weight", "encoder.LayerNorm"


class Deberta(Encoder):
    """Outputs as `Encoder`."""

    model_types: ClassVar = ("deberta-v2",)
    classes: ClassVar = classes("DebertaV2")
    modules: ClassVar = Names(
        positions=None,
        types=None,
        query="attention.self.query_proj",
        key="attention.self.key_proj",
        value="attention.self.value_proj",
    )
    harmless = {
        **Encoder.harmless,
        _UNUSED: "positions are not added to the embeddings",
        r"(lm_predictions|mask_predictions|cls)\..*": "what it was trained with; it is an encoder here",
    }
    saved: ClassVar = {
        "deberta-v2": SavedNames(
            base_class="DebertaV2Model",
            prefix="deberta.",
            parts=("embeddings.", "encoder."),
            tied={"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight"},
            classifier="DebertaV2ForSequenceClassification",
        )
    }
    settings: ClassVar = SETTINGS | Settings(
        "config.json",
        used={
            "relative_attention": "whether attention has distances",
            "position_biased_input": "whether positions are added to the embeddings",
            "type_vocab_size": "rows of the token type embeddings, if any",
            "pos_att_type": "which products of contents and positions attention has",
            "share_att_key": "whether positions have projections of their own",
            "max_relative_positions": "distances that are told apart",
            "position_buckets": "how many buckets stand for the distances of a side; not positive: none",
            "norm_rel_ebd": "whether the embeddings of distances are normalized",
            "pooler_hidden_act": "activation of a classifier of texts",
            "pooler_hidden_size": "only that of the hidden states",
            "legacy": "which head a masked language model has; its tensors, where they are of one kind only",
        },
        harmless={
            "pooler_dropout": "dropout, which inference has none of",
            "summary_*": "classifiers of texts read the first token",
        },
        refused={
            "conv_kernel_size": Refused("a convolution beside the first layer", (0,)),
            "attention_head_size": Refused("heads of another size than their share of the hidden states", ()),
        },
    )

    def configure(self, c: Config) -> None:
        #: Whether attention has distances, and whether positions are added to the embeddings as BERT does.
        self.relative, biased = c.boolean("relative_attention", False), c.boolean("position_biased_input", True)
        self.types = c.integer("type_vocab_size", 0, minimum=0)
        embeddings = "embeddings."
        self.module_names = replace(
            self.module_names,
            positions=embeddings + "position_embeddings" if biased else None,
            types=embeddings + "token_type_embeddings" if self.types else None,
        )
        if biased:
            del self.harmless[_UNUSED]
        if not self.relative:
            self.harmless[r"encoder\.(LayerNorm|rel_embeddings)\..*"] = "attention has no distances"
        self.eps = c.number("layer_norm_eps", 1e-7)
        self.products = _products(c)
        self.far = c.integer("max_relative_positions", -1, minimum=-1)
        if self.far < 1:
            self.far = self.positions
        self.read_distances(c)

    def read_distances(self, c: Config) -> None:
        """How distances are told apart, and what is made of their embeddings."""
        self.shared = c.boolean("share_att_key", False)
        self.buckets = c.integer("position_buckets", -1, minimum=-1)
        if self.buckets > 0 and (self.buckets < 4 or self.far <= self.buckets // 2 + 1):
            raise ConfigError(
                f"config: position_buckets: expected at least 4, and fewer than twice the {self.far} positions, "
                f"got {self.buckets}"
            )
        #: Rows of the embeddings of distances that are for one side.
        self.span = self.buckets if self.buckets > 0 else self.far
        self.normalized = "layer_norm" in _words(c, "norm_rel_ebd", "none")

    def make_head(self, kind: str, c: Config, names: Sequence[str]) -> Head:
        h = (self.hidden_size, "hidden")
        if kind == SEQUENCE:
            if c.integer("pooler_hidden_size", self.hidden_size) != self.hidden_size:
                raise UnsupportedModelError(f"config: pooler_hidden_size: expected {self.hidden_size}")
            activation = c.choice("pooler_hidden_act", ACTIVATIONS, "gelu")
            return sequence_head(h, self.labels, first="pooler.dense", activation=activation)
        if kind == MASKED:
            return self._masked_head(c, names)
        return token_head(h, self.labels) if kind == TOKENS else span_head(h)

    def _masked_head(self, c: Config, names: Sequence[str]) -> Head:
        """That of the published models, or, where `legacy` is true and the file has such tensors, BERT's."""
        h, v = (self.hidden_size, "hidden"), (self.vocab_size, "")
        words, own, bert = self.module_names.words + ".weight", "lm_predictions.lm_head.", "cls.predictions."
        if c.boolean("legacy", True) and own + "dense.weight" not in names:
            weight, biases = bert + "decoder.weight", (bert + "bias", bert + "decoder.bias")
            tied = c.boolean("tie_word_embeddings", True)
            last, unread = decoder(names, weight, biases, words, tied, v, h)
            self.harmless.update(unread)
            transform = bert + "transform."
            return masked_head(h, h, transform + "dense", transform + "LayerNorm", self.eps, self.activation, last)
        last = Linear(words, own + "bias", "head.decoder", v, h, tied=True)
        return masked_head(h, h, own + "dense", own + "LayerNorm", self.eps, self.activation, last)

    def hidden_widths(self) -> dict[str, int]:
        return {**super().hidden_widths(), "pooler_hidden_size": 1}

    def tensors(self) -> list[Tensor]:
        h = (self.hidden_size, "hidden")
        if not self.relative:
            return super().tensors()
        found = [*super().tensors(), Tensor.over(_POSITIONS, "attention.positions", Role.KEPT, (2 * self.span, ""), h)]
        return found + (norm_tensors(_NORM, h, "attention.positions.norm") if self.normalized else [])

    def layer_tensors(self, i: int) -> list[Tensor]:
        found = super().layer_tensors(i)
        if self.relative and not self.shared and self.heads[i]:
            h, k = (self.hidden_size, "hidden"), (self.heads[i] * self.head_dim, f"layers.{i}.attention.keys")
            for kind, name in self.products.items():
                tensor, bias = self.position_projection(i, kind)
                parts = linear_tensors(tensor, k, h, f"layers.{i}.attention.position_{name}", Role.KEPT)
                found += parts if bias else parts[:1]
        return found

    def attention(self, p: Program, w: Parameters, i: int, qkv: Value) -> Value:
        scale, name = 1 / math.sqrt(self.head_dim * (1 + len(self.products))), f"layers.{i}.attention"
        if not self.relative:
            a = self.heads[i]
            return p.attention(name, qkv, a, a, self.head_dim, causal=False, scale=scale)
        distances, rows = self._distances(w), self._rows()

        def positions(kind: str) -> Vector | None:
            if kind not in self.products:
                return None
            tensor, bias = self.position_projection(i, kind)
            made = w.product(distances, tensor + ".weight")  # [2 span, A d]
            return made + w.vector(tensor + ".bias") if bias else made

        keys, queries = positions("c2p"), positions("p2c")
        return p.disentangled_attention(name, qkv, self.heads[i], self.head_dim, scale, rows, keys, queries)

    def position_projection(self, i: int, kind: str) -> tuple[str, bool]:
        """The linear of the embeddings of distances in one kind of product, and whether it has a bias."""
        return f"{self.prefix(i)}attention.self.{'' if self.shared else 'pos_'}{self.products[kind]}_proj", True

    def _distances(self, w: Parameters) -> Vector:
        """[2 span, H]: the embeddings of distances, the least first; in the file it is that of a query far behind a key."""
        x: Any = w.vector(_POSITIONS)[np.arange(2 * self.span)[::-1].copy()]
        if not self.normalized:
            return x
        x = x - x.mean(axis=1, keepdims=True)
        variance = (x * x).mean(axis=1, keepdims=True)
        return x / (variance + self.eps) ** 0.5 * w.vector(_NORM + ".weight") + w.vector(_NORM + ".bias")

    def _rows(self) -> NDArray[np.int32]:
        """int32 [2 R + 1]: the row of `_distances` for a key that stands -R .. R places behind the query."""
        reach = 2 * self.far  # beyond, all are the last
        behind = np.arange(-reach, reach + 1)
        before = np.sign(-behind) * bucket_of(np.abs(behind), self.buckets, self.far)
        return (2 * self.span - 1 - np.clip(before + self.span, 0, 2 * self.span - 1)).astype(np.int32)


def bucket_of(distance: NDArray[np.int64], buckets: int, far: int) -> NDArray[np.int64]:
    """The bucket of a distance: itself up to half of `buckets`, beyond that growing with its logarithm; itself without."""
    if buckets <= 0:
        return distance
    middle = buckets // 2
    # In float32, as it was trained: a rounding decides between two buckets.
    share = np.maximum(distance, middle).astype(np.float32) / np.float32(middle)
    whole = np.log(np.float32((far - 1) / middle))
    beyond = np.ceil(np.log(share) / whole * np.float32(middle - 1)).astype(np.int64) + middle
    return np.where(distance <= middle, distance, beyond)


def _words(c: Config, key: str, default: str) -> list[str]:
    """A setting that is a list of words, or has them between |."""
    value: Any = c.values.get(key)
    value = default if value is None else value
    words = value.lower().split("|") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ConfigError(f"config: {key}: expected words, or a list of them, got {value!r:.80}")
    return [word.strip() for word in words if word.strip()]


def _products(c: Config) -> dict[str, str]:
    """Kinds of products -> the projection of the positions in it."""
    known = {"c2p": "key", "p2c": "query"}
    named = _words(c, "pos_att_type", "")
    if not set(named) <= set(known):
        raise UnsupportedModelError(
            f"config: pos_att_type: expected some of {', '.join(known)}, got {', '.join(named)}"
        )
    return {kind: name for kind, name in known.items() if kind in named}

"""What every model family says of itself."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from aerogel._core import Rotary
from aerogel.architectures.files import GGUFNames, SavedNames, TensorSource
from aerogel.architectures.groups import Group, Part
from aerogel.architectures.heads import Head
from aerogel.architectures.pooling import Pooling
from aerogel.architectures.settings import CONFIG, Settings
from aerogel.architectures.tensors import Fold, Role, Tensor
from aerogel.errors import ShapeError, UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value

log = logging.getLogger("aerogel")


class Architecture(ABC):
    """A model family: checks its config when made, lists its tensors, and writes itself down as a Program."""

    model_types: ClassVar[tuple[str, ...]]
    #: Tensors that may stand in a checkpoint unread, as regular expressions, with the reason that is logged.
    harmless: Mapping[str, str] = {}
    #: Whether `generate` makes sense: causal, with logits.
    generates: bool = False
    #: How the names of a layer's tensors begin; {} is its number.
    layer_prefix: ClassVar[str]
    #: model_type, or what `claims` says in its place -> how Transformers names the parameters.
    saved: ClassVar[Mapping[str, SavedNames]]
    #: `general.architecture` of GGUF -> how it translates; none: GGUF has no such family.
    gguf: ClassVar[Mapping[str, GGUFNames]] = {}
    #: Whether a vocab.txt alone says how to tokenize: WordPiece, with BERT's special tokens.
    wordpiece: ClassVar[bool] = False
    #: Where vocab.json and merges.txt alone say how to tokenize, by byte-level BPE: the special tokens unless settings name
    #: others, such as {"bos": "<s>"}. Texts stand between "cls" and "sep" where there are such.
    byte_level: ClassVar[Mapping[str, str] | None] = None
    #: What the keys of its config mean.
    settings: ClassVar[Settings] = CONFIG
    #: Keys of a config as other families call them -> as this one does.
    config_names: Mapping[str, str] = {}
    #: Whether layers may share their tensors with others, which are used over and over.
    shares_layers: ClassVar[bool] = False
    #: Whether attention's heads are told apart by their numbers, each with a bias or slope of its own: none can be removed.
    numbered_heads: ClassVar[bool] = False
    #: Whether texts stand between special tokens, as their tokenizer says.
    adds_special: ClassVar[bool] = True
    #: Whether it is a table of embeddings, and nothing else.
    is_table: ClassVar[bool] = False
    #: Whether Transformers wants the heads side by side to be as wide as the hidden states, and knows no head_dim.
    heads_fill_hidden: ClassVar[bool] = False
    #: Whether heads of zeros may stand beside the others: not where a norm goes over all of them.
    fillable_heads: bool = True

    max_positions: int
    hidden_size: int
    head_dim: int
    layers: int
    ffn: tuple[int, ...]  # channels of every layer
    heads: tuple[int, ...]  # query heads of every layer
    kv_heads: tuple[int, ...]  # of which so many have keys and values; the others share them
    vocab_size: int
    pooling: Pooling | None
    outputs: tuple[str, ...]  # the first is what `Model.forward` returns unless told otherwise
    labels: int = 0  # of a classifier
    head: Head | None = None  # None also where a family writes it down itself
    #: Kinds of tokens that the embeddings tell apart: the second text of a pair is of kind 1 where there are 2.
    types: int = 0
    #: Also give "residual.0" .. "residual.L" [T, H]: what enters each layer, and what leaves the last one.
    trace: bool = False

    @abstractmethod
    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        """Reads `config`; `names` are the checkpoint's tensors, `pooling` how its tokens become an embedding."""

    @classmethod
    def claims(cls, config: Mapping[str, Any]) -> str | None:
        """The key of `saved` that a config means: mostly its model_type; None: the config is another family's.

        Some code on the hub calls its models what another family is called: the family that is registered last goes first.
        """
        model_type = config.get("model_type")
        return model_type if isinstance(model_type, str) and model_type in cls.model_types else None

    @classmethod
    def text_of(cls, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The config of a model's text, where it has more than text: the model is then that of this config."""
        return config

    @classmethod
    def default_pooling(cls, config: Mapping[str, Any]) -> Pooling | None:
        """How a checkpoint with this config is pooled that does not say it; None: it gives no embeddings."""
        return None

    @abstractmethod
    def tensors(self) -> list[Tensor]:
        """Every tensor that the model needs."""

    @abstractmethod
    def stacks(self) -> list[tuple[str, ...]]:
        """The linears that `build` will ask for, in the order of use."""

    def folds(self) -> list[Fold]:
        """Every place where scales of activations can go into weights."""
        return []

    @abstractmethod
    def build(self, p: Program, w: Parameters) -> None:
        """Writes the model into `p`."""

    def groups(self) -> list[Group]:
        """Everything that can be removed from the model without removing a layer."""
        where: dict[str, list[tuple[Tensor, int]]] = {}
        for tensor in self.tensors():
            for axis, name in enumerate(tensor.axes):
                where.setdefault(name, []).append((tensor, axis))

        def parts(count: int, *axes: str) -> tuple[Part, ...]:
            found = [pair for name in axes for pair in where[name]]
            return tuple(
                Part(t.name, axis, t.shape[axis] // count, axis == 1 and t.role in (Role.LINEAR, Role.HEAD))
                for t, axis in found
            )

        h = self.hidden_size
        found = [Group("hidden", "hidden", h, parts(h, "hidden"), self.hidden_widths())]
        for i in self.own_layers():
            n, heads, kv, f = f"layers.{i}.", self.heads[i], self.kv_heads[i], self.ffn[i]
            queries, keys = n + "attention.queries", n + "attention.keys"
            if heads and not self.numbered_heads:
                widths = {"num_attention_heads": heads // kv, "num_key_value_heads": 1}
                least = self.least_width("attention")
                found.append(Group("heads", n + "attention", kv, parts(kv, queries, keys), widths, i, minimum=least))
            if heads > kv and not self.numbered_heads:
                widths = {"num_attention_heads": 1}
                found.append(
                    Group("queries", n + "attention", heads, parts(heads, queries), widths, i, sections=kv, minimum=kv)
                )
            if f:
                widths = {"intermediate_size": 1}
                found.append(
                    Group("ffn", n + "ffn", f, parts(f, n + "ffn"), widths, i, minimum=self.least_width("ffn"))
                )
        return found

    def prefix(self, layer: int) -> str:
        """How the names of the layer's tensors begin."""
        return self.layer_prefix.format(layer)

    def own_layers(self) -> Sequence[int]:
        """The layers whose tensors no layer before them has."""
        return range(self.layers)

    def layers_like(self, layer: int) -> Sequence[int]:
        """The layers that have this one's tensors, itself among them."""
        prefix = self.prefix(layer)
        return [i for i in range(self.layers) if self.prefix(i) == prefix]

    def layer_settings(self, config: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
        """What the config of a model with only the layers `kept` says otherwise, beside widths."""
        kinds = config.get("layer_types")
        if not isinstance(kinds, list) or len(kinds) != self.layers:
            return {}
        return {"layer_types": [kinds[i] for i in kept]}

    def hidden_widths(self) -> dict[str, int]:
        """The config's keys that get smaller with the hidden states, by one a channel."""
        return {"hidden_size": 1}

    def least_width(self, block: str) -> int:
        """0 if a layer can do without its "attention" or "ffn", else 1."""
        return 0

    @property
    def empty_is_zero(self) -> bool:
        """Whether the embedding of a text without tokens is all zeros; else some token has to stand for it."""
        return False

    @property
    def looks_at_lengths(self) -> bool:
        """Whether rotary embeddings (attributes of the family, alone or in a list) turn by the length of a sequence, so that
        it is not the same to run one in parts."""
        found = [
            one for value in vars(self).values() for one in (value if isinstance(value, (list, tuple)) else [value])
        ]
        turns = [one for one in found if isinstance(one, Rotary)]
        return any(not np.array_equal(one.frequencies(1), one.frequencies(one.positions)) for one in turns)

    def _trace(self, p: Program, layer: int, h: Value) -> None:
        if self.trace:
            p.output(f"residual.{layer}", h)

    def check(self, checkpoint: TensorSource) -> None:
        """Raises unless the checkpoint has every tensor in its shape and none that matters besides."""
        expected = {t.name: t for t in self.tensors()}
        checkpoint.require(expected)
        wrong = [
            f"{t.label}: expected {list(t.shape)}, got {list(checkpoint.shape(t.name))}"
            for t in expected.values()
            if tuple(checkpoint.shape(t.name)) != t.shape
        ]
        if wrong:
            raise ShapeError("\n".join(wrong))
        unknown: list[str] = []
        ignored: dict[str, list[str]] = {}
        for name in checkpoint.names():
            if name in expected:
                continue
            reason = next((why for pattern, why in self.harmless.items() if re.fullmatch(pattern, name)), None)
            if reason is None:
                unknown.append(name)
            else:
                ignored.setdefault(reason, []).append(name)
        if unknown:
            raise UnsupportedModelError(
                f"{checkpoint.path}: {len(unknown)} tensors would be ignored, {type(self).__name__} has none such: "
                + ", ".join(unknown)
            )
        for reason, names in ignored.items():
            log.info("not used (%s): %s", reason, ", ".join(names))

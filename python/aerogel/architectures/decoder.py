"""Decoders: rotary embeddings, RMS norms, a gated feed-forward block. Families say what is their own (`Details`)."""

from __future__ import annotations

import logging
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from aerogel.architectures.config import PER_LAYER, Config, is_folded
from aerogel.architectures.decoder_ops import DecoderOps
from aerogel.architectures.decoder_tensors import (
    attention_folds,
    attention_tensors,
    ffn_folds,
    ffn_readers,
    ffn_tensors,
    norm_tensors,
)
from aerogel.architectures.details import Details
from aerogel.architectures.files import SavedNames
from aerogel.architectures.groups import Group
from aerogel.architectures.heads import label_count, last_token_head, pad_token, token_head
from aerogel.architectures.pooling import Pooling, pooling_stacks, pooling_tensors
from aerogel.architectures.tensors import Fold, Role, Tensor
from aerogel.errors import ConfigError, UnsupportedModelError

log = logging.getLogger("aerogel")

#: How the name of a class ends: what is on top.
LANGUAGE, CLASSIFIER, TOKENS, BARE = "ForCausalLM", "ForSequenceClassification", "ForTokenClassification", "Model"
CLASSES = (LANGUAGE, CLASSIFIER, TOKENS, BARE)


def saved_names(base_class: str, classifies: bool = True) -> SavedNames:
    """How Transformers names the parameters of a decoder. `classifies`: whether it has a class that classifies texts."""
    return SavedNames(
        base_class=base_class,
        prefix="model.",
        parts=("embed_tokens.", "layers.", "norm."),
        tied={"lm_head.weight": "embed_tokens.weight"},
        classifier=base_class.removesuffix(BARE) + CLASSIFIER if classifies else None,
    )


class Decoder(DecoderOps):
    """Outputs "logits" [T, V] (or of each sequence's last token only), "scores" [S, labels] of the last token or
    "token_scores" [T, labels] with such a head, "hidden" [T, H], and with a pooling "pooled" and "embedding" [S, H].
    """

    harmless = {
        r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq": "rotary frequencies are computed",
        r"rope_freqs\.weight": "rotary frequencies are computed",
    }
    generates = True
    layer_prefix: ClassVar = "layers.{}."
    #: What Transformers takes where a config has none.
    default_head_dim: ClassVar[int | None] = None
    default_eps: ClassVar[float] = 1e-6
    default_pad: ClassVar[int | None] = None
    #: What the config calls the number that norms add to the variance.
    eps_key: ClassVar[str] = "rms_norm_eps"

    @abstractmethod
    def details_of(self, c: Config) -> Details:
        """What the config asks for; widths and `head_dim` are known already."""

    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        c = Config(config)
        self.layers = c.integer("num_hidden_layers")
        self.hidden_size = c.integer("hidden_size")
        self.ffn = c.per_layer("intermediate_size", self.layers)
        self.heads = c.per_layer("num_attention_heads", self.layers)
        self.kv_heads = c.per_layer("num_key_value_heads", self.layers, self.heads)
        self.vocab_size = c.integer("vocab_size")
        self.eps = c.number(self.eps_key, self.default_eps)
        self.head_dim = c.head_dim(self.hidden_size, self.default_head_dim)
        self.pooling = pooling
        self._check_heads()
        self.details = self.details_of(c)
        self._check_widths()
        self.fillable_heads = self.details.qk_norm != "heads"
        self.rotaries = self.details.rotaries  # where any architecture's are looked for
        reach = [rotary.positions for rotary in self.rotaries if rotary is not None]
        self.max_positions = min(reach, default=c.integer("max_position_embeddings"))
        self._read_head(c, names)
        # Some channels behind a norm or a gate are far larger than the rest: one int8 scale a token cannot hold both (on
        # SmolLM2-135M it costs 3 % of perplexity). Those inputs are split in two int8 terms, unless compression has moved
        # their scales into the weights; attention's are tame.
        self.head_terms = 2
        self._folded = is_folded(config)

    def _check_heads(self) -> None:
        if self.head_dim % 2:
            raise ConfigError(f"config: head_dim {self.head_dim} is odd, which rotary embeddings cannot be")
        for i, (heads, kv_heads) in enumerate(zip(self.heads, self.kv_heads, strict=True)):
            if (heads == 0) != (kv_heads == 0) or (kv_heads and heads % kv_heads):
                raise ConfigError(
                    f"config: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
                    f" in layer {i}"
                )
        if not any(self.heads):
            raise ConfigError("config: attention_heads: expected at least one layer with heads, got none")

    def _check_widths(self) -> None:
        for key, widths, block in (
            ("num_attention_heads", self.heads, "attention"),
            ("intermediate_size", self.ffn, "ffn"),
        ):
            if min(widths) < self.least_width(block):
                raise ConfigError(
                    f"config: {PER_LAYER[key]}: expected at least 1 in every layer, as its output has a bias, got 0"
                )

    def _read_head(self, c: Config, names: Sequence[str]) -> None:
        declared = c.architecture(LANGUAGE) or ""
        ending = next((ending for ending in CLASSES if declared.endswith(ending)), None)
        if ending is None:
            raise UnsupportedModelError(
                f"config: architectures: {declared!r} is not supported, only classes that end in {', '.join(CLASSES)} are"
            )
        logits = self.modules.head + ".weight"
        tied = c.boolean("tie_word_embeddings", logits not in names)
        if ending == LANGUAGE and not tied and logits not in names and self.pooling is not None:
            log.info("the model has a pooling and no %s: it is used for its embeddings", logits)
            ending = BARE
        self.has_logits = ending == LANGUAGE
        # Without a word in the config the tensors decide: what Transformers assumes then is not the same for all families.
        self.tied = self.has_logits and tied
        if ending in (CLASSIFIER, TOKENS):
            self.labels = label_count(c.values)
            h = (self.hidden_size, "hidden")
            self.head = last_token_head(h, self.labels) if ending == CLASSIFIER else token_head(h, self.labels, "score")
            if ending == CLASSIFIER and self.details.causal:  # no token sees those behind it
                self.pad_id = pad_token(c.values, self.default_pad)
        self.outputs = ("logits", "hidden") if self.has_logits else ("hidden",)
        if self.pooling is not None:
            self.outputs += ("embedding", "pooled")
        if self.head is not None:
            self.outputs += (self.head.output,)
        self.harmless = dict(type(self).harmless)
        if self.tied:
            self.harmless[re.escape(logits)] = "tied to the token embeddings"
        if not self.has_logits:
            self.harmless[rf"{self.modules.head}\.(weight|bias)"] = "the model is used without its logits"
        self.generates = self.has_logits and self.details.causal

    def tensors(self) -> list[Tensor]:
        h, v, m = (self.hidden_size, "hidden"), (self.vocab_size, ""), self.modules
        found = [Tensor.over(m.words + ".weight", "embeddings.tokens", Role.EMBEDDING, v, h)]
        for i in range(self.layers):
            found += self._mixer_tensors(i)
            if self.ffn[i]:
                found += ffn_tensors(self.details, m, i, self.ffn[i], h)
        found += norm_tensors(m.norm, "norm", h, self.details.layer_norm)
        if self.has_logits and not self.tied:
            found.append(Tensor.over(m.head + ".weight", "head", Role.HEAD, v, h))
        if self.has_logits and self.details.head_bias:
            found.append(Tensor.over(m.head + ".bias", "head.bias", Role.KEPT, v))
        found += self.head.tensors() if self.head is not None else []
        return found + pooling_tensors(self.pooling, self.hidden_size)

    def _mixer_tensors(self, i: int) -> list[Tensor]:
        """Of what tokens learn from each other by in layer i: attention, unless a family has something else."""
        if not self.heads[i]:
            return []
        h = (self.hidden_size, "hidden")
        return attention_tensors(self.details, self.modules, i, self.heads[i], self.kv_heads[i], self.head_dim, h)

    def least_width(self, block: str) -> int:
        # A block without heads or channels adds nothing, unless its output has a bias. One norm for both is attention's.
        d = self.details
        return int(d.out_bias or d.shares_norm if block == "attention" else d.ffn_bias)

    def layer_settings(self, config: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
        windows = self.details.windows
        if "layer_types" not in config and len({window is None for window in windows}) < 2:
            return {}
        return {"layer_types": ["full_attention" if windows[i] is None else "sliding_attention" for i in kept]}

    def groups(self) -> list[Group]:
        found = super().groups()
        # A norm over all heads would see that some are gone.
        return (
            [group for group in found if group.kind not in ("heads", "queries")]
            if self.details.qk_norm == "heads"
            else found
        )

    def stacks(self) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []
        m = self.modules
        for i in range(self.layers):
            found += self._mixer_stacks(i)
            if self.ffn[i]:
                found.append(ffn_readers(self.details, m, i))
                found.append((f"layers.{i}.{m.down}.weight",))
        if self.has_logits:
            found.append(((m.words if self.tied else m.head) + ".weight",))
        return found + pooling_stacks(self.pooling)

    def _mixer_stacks(self, i: int) -> list[tuple[str, ...]]:
        if not self.heads[i]:
            return []
        t, m = f"layers.{i}.", self.modules
        return [tuple(f"{t}{name}.weight" for name in m.queries_keys_values), (f"{t}{m.out}.weight",)]

    def folds(self) -> list[Fold]:
        found: list[Fold] = []
        for i in range(self.layers):
            found += self._mixer_folds(i)
            found += ffn_folds(self.details, self.modules, i) if self.ffn[i] else []
        return found

    def _mixer_folds(self, i: int) -> list[Fold]:
        if not self.heads[i]:
            return []
        return attention_folds(self.details, self.modules, i, self.heads[i], self.kv_heads[i], self.head_dim)

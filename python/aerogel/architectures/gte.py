"""GTE encoders of 2024 (arXiv 2407.19669): rotary embeddings, packed projections and gated feed-forward blocks.

Alibaba-NLP/gte-*-en-v1.5 and gte-multilingual-* (model_type "new"), Snowflake's arctic-embed-m-v2.0 ("gte", with code of its
own) and what Transformers 5 calls GTE are one computation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from aerogel._core import Rotary
from aerogel.architectures.config import Config
from aerogel.architectures.encoder import SETTINGS, Names
from aerogel.architectures.files import SavedNames
from aerogel.architectures.fused import Fused
from aerogel.architectures.gated import GatedEncoder, check_code
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
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Refused, Settings
from aerogel.errors import UnsupportedModelError

_LAYER = "encoder.layer.{n}."


def _saved(name: str, prefix: str) -> SavedNames:
    return SavedNames(
        base_class=name + "Model",
        prefix=prefix,
        parts=("embeddings.", "encoder.", "pooler."),
        tied={"lm_head.decoder.weight": "embeddings.word_embeddings.weight"},
        classifier=name + "ForSequenceClassification",
        fused=(
            Fused(_LAYER + "attention.qkv_proj", tuple(_LAYER + f"attention.{x}_proj" for x in "qkv")),
            Fused(_LAYER + "mlp.up_gate_proj", (_LAYER + "mlp.up_proj", _LAYER + "mlp.gate_proj")),
        ),
    )


class Gte(GatedEncoder):
    """Outputs as `Encoder`."""

    model_types: ClassVar = ("new", "gte")
    classes: ClassVar = classes("New", "Gte")
    modules: ClassVar = Names(
        query="attention.q_proj",
        key="attention.k_proj",
        value="attention.v_proj",
        out="attention.o_proj",
        attention_norm="attn_ln",
        up="mlp.up_proj",
        down="mlp.down_proj",
        ffn_norm="mlp_ln",
    )
    gate: ClassVar = "mlp.gate_proj"
    position_kinds: ClassVar = ("rope",)
    type_counts: ClassVar = (1, 0)
    masked_tensors: ClassVar = r"(lm_head|classifier)\..*"
    saved: ClassVar = {"new": _saved("New", "new."), "gte": _saved("Gte", "gte.")}
    settings: ClassVar = SETTINGS | Settings(
        "config.json",
        used={
            "position_embedding_type": "only rope",
            "rope_theta": "rotary embeddings",
            "rope_scaling": "rotary embeddings; type ntk as GTE's own code computes it",
            "rope_parameters": "rotary embeddings, as Transformers 5 writes them",
            "original_max_position_embeddings": "rotary embeddings",
            "partial_rotary_factor": "rotary embeddings",
            "max_position_embeddings": "the longest sequence",
            "auto_map": "only GTE's own classes, which are not run: what they compute is known",
        },
        harmless={"logn_attention_clip1": "without logn_attention_scale"},
        refused={
            "pack_qkv": Refused("projections that are not one", (True,)),
            "layer_norm_type": Refused("another norm", ("layer_norm",)),
            "logn_attention_scale": Refused("attention scaled by the length"),
        },
    )

    def configure(self, c: Config) -> None:
        check_code(c, ("New", "Gte"))
        self.rotary = _rotary(c, self.head_dim)
        self.positions = self.rotary.positions

    def make_head(self, kind: str, c: Config, names: Sequence[str]) -> Head:
        h = (self.hidden_size, "hidden")
        if kind == SEQUENCE:
            return sequence_head(h, self.labels, first="pooler.dense")
        if kind == TOKENS:
            return token_head(h, self.labels)
        if kind != MASKED:
            return span_head(h)
        lm, words, v = "lm_head.", self.module_names.words + ".weight", (self.vocab_size, "")
        tied = c.boolean("tie_word_embeddings", True)
        last, unread = decoder(names, lm + "decoder.weight", (lm + "decoder.bias",), words, tied, v, h)
        self.harmless.update(unread)
        return masked_head(h, h, lm + "dense", lm + "norm", self.eps, self.activation, last)


def _rotary(c: Config, head_dim: int) -> Rotary:
    """Rotary embeddings with NTK scaling as GTE's code has it (kexue.fm/archives/9706): frequencies of the base times
    `factor`, all slowed by factor^(2/d), whatever the length of a sequence."""
    values: dict[str, Any] = {
        key: c.values.get(key)
        for key in (
            "rope_theta",
            "rope_scaling",
            "rope_parameters",
            "max_position_embeddings",
            "original_max_position_embeddings",
            "partial_rotary_factor",
        )
    }
    if values["rope_theta"] is None and not values["rope_parameters"]:
        values["rope_theta"] = 160000.0 if c.values.get("model_type") == "gte" else 10000.0
    scaling = values["rope_scaling"] or {}
    if not isinstance(scaling, Mapping) or scaling.get("type", scaling.get("rope_type")) != "ntk":
        return rotary(Config(values), head_dim)
    if scaling.get("mixed_b") is not None:
        raise UnsupportedModelError(f"config: rope_scaling: mixed_b: {scaling['mixed_b']!r:.80} is not supported")
    factor = Config(scaling).number("factor")
    values["rope_theta"] = Config(values).number("rope_theta") * factor
    values["rope_scaling"] = {"type": "linear", "factor": factor ** (2 / head_dim)}
    turning = rotary(Config(values), head_dim)
    return Rotary(turning.frequencies(1), c.integer("max_position_embeddings"))

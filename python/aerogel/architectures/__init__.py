"""Model families: one file each, found by the `model_type` of a config.

A family owns all that is particular to it: its tensors and their names in every kind of file, its default pooling, the
widths that must be alike, and the list of ops that it computes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from aerogel.architectures.albert import Albert
from aerogel.architectures.architecture import Architecture
from aerogel.architectures.bert import Bert
from aerogel.architectures.config import PER_LAYER, Config, is_folded
from aerogel.architectures.deberta import Deberta
from aerogel.architectures.deberta_v1 import DebertaV1
from aerogel.architectures.distilbert import DistilBert
from aerogel.architectures.electra import Electra
from aerogel.architectures.eurobert import EuroBert
from aerogel.architectures.files import GGUFNames, GGUFSource, SavedNames, TensorSource
from aerogel.architectures.fused import Fused
from aerogel.architectures.gemma import Gemma, Gemma2
from aerogel.architectures.gemma3 import Gemma3
from aerogel.architectures.gpt2 import GPT2
from aerogel.architectures.granite import Granite
from aerogel.architectures.groups import Group, Part
from aerogel.architectures.gte import Gte
from aerogel.architectures.jina_bert import JinaBert
from aerogel.architectures.jina_code import JinaCode
from aerogel.architectures.llama import Llama
from aerogel.architectures.mistral import Mistral
from aerogel.architectures.modernbert import ModernBert
from aerogel.architectures.mpnet import MPNet
from aerogel.architectures.nomic_bert import NomicBert
from aerogel.architectures.olmo import Olmo2, Olmo3
from aerogel.architectures.opt import OPT
from aerogel.architectures.phi3 import Phi3
from aerogel.architectures.pooling import MODES, Dense, Norm, Normalize, Pooling, Step
from aerogel.architectures.qwen import Qwen2, Qwen3
from aerogel.architectures.roberta import Roberta
from aerogel.architectures.settings import Refused, Settings
from aerogel.architectures.smollm3 import SmolLM3
from aerogel.architectures.t5 import T5
from aerogel.architectures.tensors import Fold, Role, Tensor
from aerogel.architectures.word_table import TABLE, WordTable, table_config
from aerogel.errors import UnsupportedModelError

__all__ = [
    "FAMILIES",
    "MODES",
    "PER_LAYER",
    "TABLE",
    "Architecture",
    "Config",
    "Dense",
    "Fold",
    "Fused",
    "GGUFNames",
    "GGUFSource",
    "Group",
    "Norm",
    "Normalize",
    "Part",
    "Pooling",
    "Refused",
    "Role",
    "SavedNames",
    "Settings",
    "Step",
    "Tensor",
    "TensorSource",
    "architecture_of",
    "family_of",
    "gguf_names",
    "is_folded",
    "is_table",
    "pooling_of",
    "register",
    "saved_names",
    "table_config",
]

log = logging.getLogger("aerogel")

#: model_type -> family
FAMILIES: dict[str, type[Architecture]] = {}


def register(family: type[Architecture]) -> type[Architecture]:
    """Makes a family known by its model types, and by its names in GGUF."""
    for model_type in family.model_types:
        FAMILIES[model_type] = family
    return family


_ENCODERS = (
    Bert,
    Roberta,
    DistilBert,
    Electra,
    Albert,
    MPNet,
    ModernBert,
    NomicBert,
    Gte,
    JinaBert,
    JinaCode,
    Deberta,
    DebertaV1,
    T5,
    WordTable,
)
_ROTARY = (Llama, EuroBert, Gemma, Gemma2, Gemma3, Granite, Mistral, Olmo2, Olmo3, Phi3, Qwen2, Qwen3, SmolLM3)
_DECODERS = (*_ROTARY, GPT2, OPT)
for _family in (*_ENCODERS, *_DECODERS):
    register(_family)


def family_of(config: Mapping[str, Any]) -> type[Architecture] | None:
    """The family that a config names, or None if there is no such."""
    families = dict.fromkeys(reversed(FAMILIES.values()))
    return next((family for family in families if family.claims(config) is not None), None)


def is_table(config: Mapping[str, Any]) -> bool:
    """Whether the config is that of a table of embeddings."""
    family = family_of(config)
    return family is not None and family.is_table


def saved_names(config: Mapping[str, Any]) -> SavedNames | None:
    """How Transformers names the parameters of the model type in the config; None for a type that is not supported."""
    family = family_of(config)
    kind = None if family is None else family.claims(config)
    return None if family is None or kind is None else family.saved[kind]


def gguf_names() -> dict[str, GGUFNames]:
    """`general.architecture` -> how it translates, over all families."""
    return {name: names for family in dict.fromkeys(FAMILIES.values()) for name, names in family.gguf.items()}


def architecture_of(checkpoint: TensorSource, pooling: Pooling | None = None) -> Architecture:
    """The checked architecture of a checkpoint; raises a named error for anything that would not run exactly."""
    config: Mapping[str, Any] = checkpoint.config
    family = family_of(config)
    if family is None:
        raise UnsupportedModelError(
            f"{checkpoint.path}: model_type {config.get('model_type')!r} is not supported, "
            f"only {', '.join(sorted(FAMILIES))}"
        )
    method = (config.get("quantization_config") or {}).get("quant_method")
    if method not in (None, "aerogel"):
        raise UnsupportedModelError(f"{checkpoint.path}: weights quantized by {method!r} are not supported")
    family.settings.check(config, f"{checkpoint.path}: config")
    architecture = family(config, checkpoint.names(), pooling or checkpoint.pooling)
    architecture.check(checkpoint)
    return architecture


def pooling_of(checkpoint: TensorSource) -> Pooling | None:
    """How a checkpoint's tokens become an embedding: as it says, else as its family does by default; None: not at all."""
    if checkpoint.pooling is not None:
        return checkpoint.pooling
    family = family_of(checkpoint.config)
    pooling = None if family is None else family.default_pooling(checkpoint.config)
    if pooling is not None:
        log.warning(
            "%s does not say how it pools tokens: the %s is used, as sentence-transformers does; "
            "load(..., pooling=) names another",
            checkpoint.path,
            " and ".join(pooling.modes),
        )
    return pooling

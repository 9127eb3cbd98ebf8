"""One name per parameter, however the model was saved.

Hugging Face saves the same BERT as `encoder.layer.0...` (the base model) or `bert.encoder.layer.0...` (with a head on
top). Here every name is relative to the base model:

    bert.encoder.layer.0.output.dense.weight   ->  encoder.layer.0.output.dense.weight
    model.layers.0.self_attn.q_proj.weight     ->  layers.0.self_attn.q_proj.weight
    bert.embeddings.LayerNorm.gamma            ->  embeddings.LayerNorm.weight      (and beta -> bias: BERT's first form)

What is not part of the base model keeps its name: `lm_head.*`, `classifier.*`, `cls.*`, `qa_outputs.*`. BERT's pooler is
part of it: `bert.pooler.dense.weight` becomes `pooler.dense.weight`. Buffers that are computed from the config, such as
`embeddings.position_ids`, are left out. Normalising a name twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aerogel.errors import CheckpointError

BASE_PREFIXES = (
    "bert.",
    "roberta.",
    "distilbert.",
    "mpnet.",
    "electra.",
    "model.",  # Llama, Qwen2 and most decoders; ModernBERT
)

#: model_type -> the class of the base model, the prefix of its parameters inside any other class, and how they begin
_SAVED = {
    "bert": ("BertModel", "bert.", ("embeddings.", "encoder.", "pooler.")),
    "llama": ("LlamaModel", "model.", ("embed_tokens.", "layers.", "norm.")),
    "qwen2": ("Qwen2Model", "model.", ("embed_tokens.", "layers.", "norm.")),
}

_RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_BUFFERS = ("position_ids", "token_type_ids", "rotary_emb.inv_freq", "attn.masked_bias")


def normalize(name: str) -> str:
    """The parameter's name relative to the base model."""
    for prefix in BASE_PREFIXES:
        if name.startswith(prefix):
            name = name[len(prefix) :]
            break
    for old, new in _RENAMED.items():
        if name.endswith(old):
            name = name[: -len(old)] + new
    return name


def saved_name(name: str, config: Mapping[str, Any]) -> str:
    """The name under which Transformers saves the parameter for the class that the config names: `normalize`, undone."""
    base_class, prefix, begins = _SAVED[config["model_type"]]
    [declared, *_] = config.get("architectures") or [base_class]
    return prefix + name if declared != base_class and name.startswith(begins) else name


def is_buffer(name: str) -> bool:
    """Whether the tensor is no parameter but computed from the config."""
    return any(name == buffer or name.endswith("." + buffer) for buffer in _BUFFERS)


def normalize_all(stored: Iterable[str], where: object) -> dict[str, str]:
    """Maps each parameter's normalised name to its stored one.

    Raises:
        CheckpointError: two stored names mean the same parameter.
    """
    result: dict[str, str] = {}
    for name in stored:
        if is_buffer(name):
            continue
        short = normalize(name)
        if short in result:
            raise CheckpointError(f"{where}: {result[short]!r} and {name!r} are both the parameter {short!r}")
        result[short] = name
    return result

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

from collections.abc import Iterable

from aerogel.errors import CheckpointError

BASE_PREFIXES = (
    "bert.",
    "roberta.",
    "distilbert.",
    "mpnet.",
    "electra.",
    "model.",  # Llama, Qwen2 and most decoders; ModernBERT
)

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

"""One name per parameter, however the model was saved.

Transformers saves the same encoder as `encoder.layer.0...` (the base model) or with the base model's name before it (with
a head on top). Here every name is relative to the base model; each family says its prefix (`Architecture.saved`), and
which endings older versions wrote otherwise. What is not part of the base model keeps its name: `lm_head.*`,
`classifier.*`, `cls.*`. Buffers that are computed from the config, such as `embeddings.position_ids`, are left out.
Normalising a name twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aerogel.architectures import SavedNames, saved_names
from aerogel.errors import CheckpointError, UnsupportedModelError

#: What a class around a base model may call it, whatever the family.
_WRAPPER = "model."
#: What tools put around a model or a layer: sentence-transformers, torch.compile, DataParallel and SparseML.
_AROUND = ("0.auto_model.", "_orig_mod.", "module.")
_BUFFERS = ("position_ids", "token_type_ids", "rotary_emb.inv_freq", "attn.masked_bias")


def normalize(name: str, saved: SavedNames | None) -> str:
    """The parameter's name relative to the base model."""
    for wrapper in _AROUND:
        if name.startswith(wrapper):
            name = name[len(wrapper) :]
        name = name.replace("." + wrapper, ".")
    for prefix in (_WRAPPER,) if saved is None else (*saved.around, saved.prefix, _WRAPPER):
        if name.startswith(prefix):
            name = name[len(prefix) :]
            break
    for old, new in saved.renamed.items() if saved else ():
        if name.endswith(old):
            name = name[: -len(old)] + new
    return name


def saved_name(name: str, config: Mapping[str, Any]) -> str:
    """The name under which Transformers saves the parameter for the class that the config names: `normalize`, undone.

    Raises:
        UnsupportedModelError: the config names no family.
    """
    saved = saved_names(config)
    if saved is None:
        raise UnsupportedModelError(f"model_type {config.get('model_type')!r} is not supported")
    [declared, *_] = config.get("architectures") or [saved.base_class]
    return saved.prefix + name if declared != saved.base_class and name.startswith(saved.parts) else name


def is_buffer(name: str) -> bool:
    """Whether the tensor is no parameter but computed from the config."""
    return any(name == buffer or name.endswith("." + buffer) for buffer in _BUFFERS)


def normalize_all(stored: Iterable[str], config: Mapping[str, Any], where: object) -> dict[str, str]:
    """Maps each parameter's normalised name to its stored one.

    Raises:
        CheckpointError: two stored names mean the same parameter.
    """
    saved = saved_names(config)
    result: dict[str, str] = {}
    for name in stored:
        if is_buffer(name):
            continue
        short = normalize(name, saved)
        if short in result:
            raise CheckpointError(f"{where}: {result[short]!r} and {name!r} are both the parameter {short!r}")
        result[short] = name
    return result

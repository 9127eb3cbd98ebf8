"""Writing how a model makes one embedding of a text as sentence-transformers reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.architectures import Dense, Norm, Normalize, Pooling, Step, is_table
from aerogel.checkpoint.checkpoint import Checkpoint
from aerogel.checkpoint.config import read_optional_json, write_json
from aerogel.checkpoint.query_terms import WRITTEN as TERMS_WRITTEN
from aerogel.checkpoint.query_terms import write_query_terms
from aerogel.checkpoint.safetensors_writer import SafetensorsWriter
from aerogel.checkpoint.sentence_modules import ACTIVATIONS, FLAGS, STATIC, STEP
from aerogel.checkpoint.sentence_router import FILE as ROUTER_FILE
from aerogel.checkpoint.sentence_router import TERMS, write_router
from aerogel.checkpoint.token_writer import token_weights, write_token_modules

_INSIDE = {Dense: "linear", Norm: "norm"}
_KINDS = {Dense: "Dense", Norm: "LayerNorm", Normalize: "Normalize"}
#: The folder of what makes embeddings of queries beside a model that makes those of documents.
_QUERIES = f"query_0_{TERMS}"
#: Everything that is written here, as paths inside the model's folder.
WRITTEN = (
    "modules.json",
    ROUTER_FILE,
    *(f"document_1_SpladePooling{file}" for file in ("", "/config.json")),
    _QUERIES,
    *(f"{_QUERIES}/{file}" for file in TERMS_WRITTEN),
    *(f"?_{kind}{file}" for kind in ("Pooling", "SpladePooling", *_KINDS.values()) for file in ("", "/config.json")),
    *(f"?_{_KINDS[kind]}/model.safetensors" for kind in _INSIDE),
)


def write_modules(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes modules.json and the modules' configs into the folder; nothing if the checkpoint has no pooling.

    They are written rather than copied: a source may keep its Transformer in a subfolder, a folder from here never does.
    """
    pooling = checkpoint.pooling
    if pooling is None:
        write_token_modules(checkpoint, folder)
        _write_terms(checkpoint, folder)
        _write_messages(checkpoint, folder)
        return
    steps = [*pooling.steps, *([Normalize()] if pooling.normalize else [])]
    table = is_table(checkpoint.config)  # its mean is its own
    kinds = [*([STATIC] if table else ["Transformer", "Pooling"]), *(_KINDS[type(step)] for step in steps)]
    paths = ["", *([] if table else ["1_Pooling"]), *(_folder_of(i, step) for i, step in enumerate(steps))]
    _write_list(folder, kinds, paths, "models")
    _write_steps(checkpoint, pooling, folder)
    if not table:
        _write_pooling(checkpoint, pooling, folder)


def _write_steps(checkpoint: Checkpoint, pooling: Pooling, folder: Path) -> None:
    for i, step in enumerate(pooling.steps):
        if not isinstance(step, Normalize):
            place = folder / _folder_of(i, step)
            place.mkdir()
            write_json(place / "config.json", _config(checkpoint, step))


def _write_pooling(checkpoint: Checkpoint, pooling: Pooling, folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    # The flags, which every version reads, have one order; another one only a list can say.
    flags = {flag: mode in pooling.modes for flag, mode in FLAGS.items()}
    ordered = tuple(mode for mode in FLAGS.values() if mode in pooling.modes) == pooling.modes
    names = {"last": "lasttoken", "mean_sqrt_len": "mean_sqrt_len_tokens"}
    write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": checkpoint.config.get("hidden_size"),
            **(flags if ordered else {"pooling_mode": [names.get(mode, mode) for mode in pooling.modes]}),
            **({} if checkpoint.prompts.pooled else {"include_prompt": False}),
        },
    )


def _write_terms(checkpoint: Checkpoint, folder: Path) -> None:
    """The modules of a sparse encoder, if it is one."""
    if checkpoint.term_activation is None:
        return
    pooling = "1_SpladePooling"
    if checkpoint.query_terms is None:
        _write_list(folder, ["MLMTransformer", "SpladePooling"], ["", pooling], "sparse_encoder.models")
    else:
        pooling = "document_1_SpladePooling"
        _write_list(folder, ["Router"], [""], "models")
        write_router(folder, pooling, _QUERIES)
        write_query_terms(checkpoint.query_terms, folder / _QUERIES, checkpoint.config.get("pad_token_id"))
    (folder / pooling).mkdir()
    write_json(
        folder / pooling / "config.json",
        {
            "pooling_strategy": "max",
            "activation_function": checkpoint.term_activation,
            "word_embedding_dimension": checkpoint.config.get("vocab_size"),
        },
    )


def _write_messages(checkpoint: Checkpoint, folder: Path) -> None:
    """That a classifier's chat template writes pairs, if it does."""
    messages = checkpoint.messages
    if messages is None or messages.alone:
        return
    _write_list(folder, ["Transformer"], [""], "models")
    path, entry = folder / "sentence_bert_config.json", {"method": "forward", "method_output_name": "logits"}
    said = {
        **{key: value for key, value in read_optional_json(path).items() if key != "processing_kwargs"},
        "transformer_task": "sequence-classification",
        "modality_config": {
            "text": entry,
            "message": {**entry, "format": "structured" if messages.structured else "flat"},
        },
        "module_output_name": "scores",
    }
    write_json(
        path, {**said, "processing_kwargs": {"chat_template": messages.arguments}} if messages.arguments else said
    )


def _write_list(folder: Path, kinds: Sequence[str], paths: Sequence[str], package: str) -> None:
    write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{package}.{kind}"}
            for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
        ],
    )


def plain_names(checkpoint: Checkpoint) -> list[str]:
    """The parameters that stand in a model's own file in a plain folder: without those of `write_steps`."""
    prefix = STEP.format("")
    apart = {name for *_, names in token_weights(checkpoint) for name in names}
    return [name for name in checkpoint.names() if not name.startswith(prefix) and name not in apart]


def write_steps(checkpoint: Checkpoint, folder: Path, array: Callable[[str], np.ndarray]) -> None:
    """Writes the tensors of the modules after the pooling where sentence-transformers reads them.

    Args:
        checkpoint: whose pooling it is.
        folder: the model's, with what `write_modules` wrote.
        array: gives a parameter's values in the type that they are written in.
    """
    for place, kind, names in _weights(checkpoint):
        writer = SafetensorsWriter(folder / place / "model.safetensors")
        for name in names:
            writer.add(f"{kind}.{name.rpartition('.')[2]}", array(name))
        writer.close({"format": "pt"})


def _weights(checkpoint: Checkpoint) -> Iterator[tuple[str, str, list[str]]]:
    """Of every module with weights: its folder, what its tensors begin with there, and their names here."""
    yield from token_weights(checkpoint)
    for i, step in enumerate(checkpoint.pooling.steps if checkpoint.pooling else ()):
        if not isinstance(step, Normalize):
            parts = ("weight", "bias") if not isinstance(step, Dense) or step.bias else ("weight",)
            yield _folder_of(i, step), _INSIDE[type(step)], [f"{step.name}.{part}" for part in parts]


def _folder_of(index: int, step: Step) -> str:
    """The folder of a step; the Transformer and the Pooling stand before the first."""
    return f"{index + 2}_{_KINDS[type(step)]}"


def _config(checkpoint: Checkpoint, step: Dense | Norm) -> dict[str, Any]:
    # The widths of the tensors, as the model may have been cut since.
    shape = checkpoint.shape(step.name + ".weight")
    if isinstance(step, Norm):
        return {"dimension": shape[0]}
    function = next(name for name, kind in ACTIVATIONS.items() if kind == step.activation)
    module = "linear" if function == "Identity" else "activation"
    return {
        "in_features": shape[1],
        "out_features": shape[0],
        "bias": step.bias,
        "activation_function": f"torch.nn.modules.{module}.{function}",
    }

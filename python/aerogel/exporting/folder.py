"""Export: any checkpoint that aerogel reads, as a plain dense folder that Transformers loads. Zeros are stored in place."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aerogel._util.checks import function, one_of, whole_number
from aerogel._util.checks import path as as_path
from aerogel._util.progress import Progress
from aerogel.architectures import Role, architecture_of
from aerogel.checkpoint import Checkpoint, open_checkpoint
from aerogel.checkpoint.config import read_json, write_json
from aerogel.checkpoint.folder import keep_files
from aerogel.checkpoint.fused import saved_form, saved_parts
from aerogel.checkpoint.safetensors_writer import SafetensorsWriter
from aerogel.checkpoint.sentence_writer import plain_names, write_steps
from aerogel.checkpoint.target import WRITER, check_apart, check_target, writing_model
from aerogel.checkpoint.token_writer import without_token_modules
from aerogel.errors import DataError, RecipeError
from aerogel.exporting.uniform import uniform
from aerogel.numbers.bf16 import narrow

#: dtype -> bytes of an element
DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote.

    Attributes:
        path: the folder.
        dtype: the type of every tensor.
        files: the names of the weight files.
        file_bytes: their size.
        sparsity: fraction of zeros over the linear layers.
        seconds: how long it took.
    """

    path: str
    dtype: str
    files: list[str]
    file_bytes: int
    sparsity: float
    seconds: float


def export(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    dtype: str = "float32",
    max_shard_bytes: int | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    rerank: str | None = None,
) -> ExportReport:
    """Writes a model as a plain Hugging Face folder: dense safetensors, config, tokenizer, pooling.

    The names are those of the class that the config names, so that Transformers, and everything that reads its folders,
    loads it. float32 holds every weight that aerogel runs exactly. Layers of different widths are padded with zeros to
    the widest, which computes the same; removed hidden channels stay removed.

    Args:
        source: a packed model, a compressed-tensors, Hugging Face or sentence-transformers folder, a .gguf file, or a model
            id on the hub.
        out: the folder to write: a new or an empty one, or see `overwrite`.
        dtype: "float32", "bfloat16" or "float16"; the latter two round to the nearest.
        max_shard_bytes: size limit of one file of weights; a tensor is never split. One file unless given.
        progress: called as progress(done, total, name) after every tensor.
        overwrite: as `aerogel.compress`.
        rerank: as `aerogel.load`: makes a language model a reranker, a classifier with one label.

    Raises:
        RecipeError: `dtype` is unknown, or `out` may not be overwritten.
        DataError: a weight is too large for float16.
        UnsupportedModelError: the architecture is unknown, or Transformers has no config for its heads.
        AerogelError: the source is broken.
    """
    start = time.perf_counter()
    out = as_path("out", out, RecipeError)
    function("progress", progress, RecipeError)
    _check_arguments(dtype, max_shard_bytes)
    check_target(out, overwrite)
    checkpoint = open_checkpoint(source, rerank=rerank)
    check_apart(checkpoint.path, out)
    architecture = architecture_of(checkpoint)
    linears = {tensor.name for tensor in architecture.tensors() if tensor.role is Role.LINEAR}
    checkpoint = uniform(checkpoint, architecture)
    shards = _shards(checkpoint, DTYPES[dtype], max_shard_bytes)
    with writing_model(out, overwrite) as folder:
        sparsity = _write_weights(folder, checkpoint, shards, linears, dtype, progress)
        write_json(folder / "config.json", without_token_modules(checkpoint, _plain_config(checkpoint.config, dtype)))
        keep_files(checkpoint, folder)
        write_steps(checkpoint, folder, lambda name: _converted(name, checkpoint.array(name), dtype))
        _describe_tokenizer(checkpoint, folder)
        file_bytes = sum((folder / file).stat().st_size for file in shards)
    return ExportReport(str(out), dtype, list(shards), file_bytes, sparsity, time.perf_counter() - start)


def _check_arguments(dtype: str, max_shard_bytes: int | None) -> None:
    one_of("dtype", dtype, DTYPES, RecipeError)
    if max_shard_bytes is not None:
        whole_number("max_shard_bytes", max_shard_bytes, 1, error=RecipeError)


def _write_weights(
    folder: Path,
    checkpoint: Checkpoint,
    shards: Mapping[str, Mapping[str, Sequence[str]]],
    linears: Set[str],
    dtype: str,
    progress: Progress | None,
) -> float:
    """Writes the files of weights, and their index where there are several; returns the sparsity of the linears."""
    done, total = 0, sum(map(len, shards.values()))
    size = zeros = weights = 0
    for file, members in shards.items():
        writer = SafetensorsWriter(folder / file)
        for name, parts in members.items():
            array = saved_form(name, [checkpoint.array(part) for part in parts], checkpoint.config)
            if not linears.isdisjoint(parts):
                weights += array.size
                zeros += array.size - int(np.count_nonzero(array))
            size += writer.add(name, _converted(name, array, dtype))
            done += 1
            if progress is not None:
                progress(done, total, name)
        writer.close({"format": "pt", **WRITER})  # Transformers refuses a file that does not say so
    if len(shards) > 1:
        where = {name: file for file, members in shards.items() for name in members}
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": where})
    return zeros / weights if weights else 0.0


def _shards(checkpoint: Checkpoint, itemsize: int, limit: int | None) -> dict[str, dict[str, list[str]]]:
    """Of each file the names of its tensors, and of the parameters that each of them has."""
    shards: list[dict[str, list[str]]] = [{}]
    held = 0
    for name, parts in saved_parts(plain_names(checkpoint), checkpoint.config).items():
        size = itemsize * sum(math.prod(checkpoint.shape(part)) for part in parts)
        if limit is not None and shards[-1] and held + size > limit:
            shards.append({})
            held = 0
        shards[-1][name] = parts
        held += size
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {f"model-{i:05}-of-{len(shards):05}.safetensors": names for i, names in enumerate(shards, 1)}


def _converted(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        return narrow(array)
    if dtype == "float16":
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if not np.isfinite(half).all():
            raise DataError(f"{name}: expected at most 65504 for float16, got {np.abs(array).max():g}: use bfloat16")
        return half
    return array


def _plain_config(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    # Transformers calls it dtype since 4.56 and still reads torch_dtype.
    dropped = ("quantization_config", "dtype")
    return {**{key: value for key, value in config.items() if key not in dropped}, "torch_dtype": dtype}


def _describe_tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    """tokenizer_config.json where the source has none: by the model's type alone Transformers would pick a class that
    changes what tokenizer.json says (a GGUF of SmolLM2 would begin each text with a token that the model never saw).
    """
    path = folder / "tokenizer_config.json"
    if path.exists() or not (folder / "tokenizer.json").exists():
        return
    special = {token["id"]: token["content"] for token in read_json(folder / "tokenizer.json").get("added_tokens", ())}
    config = checkpoint.config
    ids = {kind: config.get(f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    tokens = {f"{kind}_token": special[id] for kind, id in ids.items() if isinstance(id, int) and id in special}
    for kind in ("pad", "unk", "cls", "sep", "mask"):  # BERT's
        if f"[{kind.upper()}]" in special.values():
            tokens[f"{kind}_token"] = f"[{kind.upper()}]"
    length = checkpoint.max_tokens or config.get("max_position_embeddings")
    write_json(path, {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length, **tokens})

"""Compression: any supported checkpoint in, a packed model out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aerogel._util.checks import thread_count
from aerogel._util.progress import Progress
from aerogel.checkpoint import open_checkpoint
from aerogel.checkpoint.folder import KEPT_FILES, check_apart, check_target, replacing
from aerogel.compression.pipeline import pack
from aerogel.compression.recipe import Recipe, with_values
from aerogel.compression.report import CompressReport, TensorReport
from aerogel.compression.targets import Target, pack_to
from aerogel.errors import RecipeError

__all__ = [
    "KEPT_FILES",
    "CompressReport",
    "Progress",
    "Target",
    "TensorReport",
    "check_target",
    "compress",
    "pack",
    "replacing",
]


def compress(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    sparsity: float | None = None,
    pattern: str | None = None,
    quant: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    *,
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any] | None = None,
    method: str | None = None,
    budget: str | None = None,
    calibrate: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    pack: str | None = None,
    seed: int | None = None,
    target: Target | None = None,
) -> CompressReport:
    """Prunes and quantizes a model and writes it as a packed model.

    Every linear layer inside the Transformer is pruned; weights that are zero already stay zero and count towards the
    sparsity. Everything but norms and biases is quantized. With calibration texts, each layer in turn is fitted to
    reproduce the dense model's results on them; without, the weights of least magnitude are removed, at most half of them
    unless `method` says "magnitude". Nothing is trained: for 80 % and more see `aerogel.train`.

    Args:
        source: a local folder or file, or a model id on the Hugging Face hub.
        out: the folder to write. An existing packed model is replaced once the new one is complete; any other folder
            that is not empty is left alone and refused, and so is one with files that were not written here, or with the
            source.
        sparsity: fraction of weights to remove; unless given, that of the pattern, else 0: only zeros that the model has
            already are kept as such.
        pattern: "unstructured", "Q:64", "N:M", "1x4" or "2x1", see `aerogel.prune.parse_pattern`.
        quant: scheme of the linears, see `aerogel.quantize`: "int8", "int4:g64", "codebook:16", "bf16", "none" ...
        threads: tensors processed in parallel; the process's cores unless given. The result does not depend on it.
        progress: called as progress(done, total, name) after every tensor.
        recipe: everything else, or a whole recipe (an object, plain values, or a YAML file); the other arguments replace
            its values.
        method: of pruning, see `aerogel.prune.METHODS`; unless given "admm" with calibration texts, else "magnitude".
        budget: how layers share the sparsity, see `aerogel.budget.BUDGETS`; "uniform" unless given.
        calibrate: files with calibration texts, see `aerogel.calibrate.read_texts`.
        pack: "plain", or "small": entropy-coded.
        seed: the random seed.
        target: choose the sparsity for a size, a latency or a score, see `Target`; the search for a score starts at
            `sparsity`.

    Returns:
        A report with the sparsity, size and error of every tensor.

    Raises:
        RecipeError: the recipe is unknown or contradictory, or removes more than half of the weights without calibration
            texts and without naming a method, or `out` may not be overwritten.
        AerogelError: the source is broken or not supported.
    """
    workers = thread_count(threads, RecipeError)
    if isinstance(calibrate, (str, os.PathLike)):
        calibrate = [calibrate]
    given = {
        "prune.sparsity": sparsity,
        "prune.pattern": pattern,
        "prune.method": method,
        "prune.budget": budget,
        "quantize.weights": quant,
        "calibration.files": None if calibrate is None else tuple(os.fspath(file) for file in calibrate),
        "pack": pack,
        "seed": seed,
    }
    whole = with_values(_recipe_of(recipe), {key: value for key, value in given.items() if value is not None})
    check_target(Path(out))
    checkpoint = open_checkpoint(source)
    check_apart(checkpoint.path, Path(out))
    if target is not None:
        return pack_to(checkpoint, Path(out), whole, target, workers, progress)
    return _pack(checkpoint, Path(out), whole, threads=workers, progress=progress)


def _recipe_of(recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any] | None) -> Recipe:
    """A recipe in any form that `compress` takes."""
    if recipe is None or isinstance(recipe, Recipe):
        return recipe or Recipe()
    return Recipe.of(recipe) if isinstance(recipe, Mapping) else Recipe.read(recipe)


_pack = pack  # `compress` has an argument of that name

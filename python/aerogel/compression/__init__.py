"""Compression: any supported checkpoint in, a packed model out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from aerogel._util.checks import flag, function, instance, items, thread_count
from aerogel._util.checks import path as as_path
from aerogel._util.progress import Progress
from aerogel.checkpoint import open_checkpoint
from aerogel.checkpoint.folder import KEPT_FILES
from aerogel.checkpoint.target import check_apart, check_target
from aerogel.compression.card import write_card
from aerogel.compression.check import Check, Checker
from aerogel.compression.check import check as check_against
from aerogel.compression.pipeline import pack
from aerogel.compression.recipe import Recipe, with_values
from aerogel.compression.report import CompressReport, TensorReport
from aerogel.compression.speed import MEASURE, speed
from aerogel.compression.targets import Target, pack_to
from aerogel.errors import RecipeError

__all__ = [
    "KEPT_FILES",
    "Check",
    "Checker",
    "CompressReport",
    "Progress",
    "Target",
    "TensorReport",
    "compress",
    "pack",
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
    mix: float | None = None,
    pack: str | None = None,
    seed: int | None = None,
    target: Target | None = None,
    overwrite: bool = False,
    rerank: str | None = None,
    check: bool = False,
) -> CompressReport:
    """Prunes and quantizes a model and writes it as a packed model.

    Every linear layer inside the Transformer is pruned; weights that are zero already stay zero and count towards the
    sparsity. Everything but norms and biases is quantized. Each pruned layer in turn is fitted to reproduce the dense
    model's results on calibration texts, those of the general mix unless others are given; with the method "magnitude"
    the weights of least magnitude are removed unseen. Nothing is trained: for 80 % and more see `aerogel.train`.

    Args:
        source: a local folder or file, or a model id on the Hugging Face hub.
        out: the folder to write: a new or an empty one, or see `overwrite`. Until the new model is complete, nothing of
            it is seen there.
        sparsity: fraction of weights to remove; unless given, that of the pattern, else 0: only zeros that the model has
            already are kept as such.
        pattern: "unstructured", "Q:64", "N:M", "Q:64x4", "1x4", "4x1" or "2x1", see `aerogel.prune.parse_pattern`.
        quant: scheme of the linears, see `aerogel.quantize`: "int8", "int4:g64", "codebook:16", "bf16", "none" ...
        threads: tensors processed in parallel; the process's cores unless given. The result does not depend on it.
        progress: called as progress(done, total, name) after every tensor.
        recipe: everything else, or a whole recipe (an object, plain values, or a YAML file); the other arguments replace
            its values.
        method: of pruning, see `aerogel.prune.METHODS`; unless given "admm" with calibration texts, else "magnitude".
        budget: how layers share the sparsity, see `aerogel.budget.BUDGETS`; "uniform" unless given.
        calibrate: files with calibration texts, see `aerogel.calibrate.read_texts`; "general": the mix of texts that the
            package carries, which is taken where texts are needed, or no method is named, and none are given; "self": what
            a language model writes itself, from random tokens on.
        mix: which part of the tokens is of the general mix, beside other texts; half unless given, if `calibrate` names it.
        pack: "plain", or "small": entropy-coded.
        seed: the random seed.
        target: choose the sparsity for a size, a latency or a score, see `Target`; the search for a score starts at
            `sparsity`.
        overwrite: replace a model that stands in `out`. Only one that aerogel wrote is replaced: a folder with other files
            in it, or with the source, is refused all the same.
        rerank: as `aerogel.load`: makes a language model a reranker, which the packed model then is. Calibration texts that
            follow each other are pairs for a model whose chat template writes pairs.
        check: compare the new model's answers with the source's on texts that it was not fitted to, in the report's `check`
            and in the model's README.md, which also says how fast it is here. It takes some seconds.

    Returns:
        A report with the sparsity, size and error of every tensor.

    Raises:
        RecipeError: the recipe is unknown or contradictory, or removes more than half of the weights of a model that reads
            no text without naming a method, or `out` may not be overwritten.
        AerogelError: the source is broken or not supported.
    """
    workers = thread_count(threads, RecipeError)
    target_folder = as_path("out", out, RecipeError)
    function("progress", progress, RecipeError)
    checked = flag("check", check, RecipeError)
    if target is not None:
        instance("target", target, Target, RecipeError)
    if isinstance(calibrate, (str, os.PathLike)):
        calibrate = [calibrate]
    files = (
        None
        if calibrate is None
        else tuple(str(as_path("calibrate", file, RecipeError)) for file in items("calibrate", calibrate, RecipeError))
    )
    given = {
        "prune.sparsity": sparsity,
        "prune.pattern": pattern,
        "prune.method": method,
        "prune.budget": budget,
        "quantize.weights": quant,
        "calibration.files": files,
        "calibration.mix": mix,
        "pack": pack,
        "seed": seed,
    }
    whole = with_values(_recipe_of(recipe), {key: value for key, value in given.items() if value is not None})
    check_target(target_folder, overwrite)
    checkpoint = open_checkpoint(source, rerank=rerank)
    check_apart(checkpoint.path, target_folder)
    if target is not None:
        done = pack_to(checkpoint, target_folder, whole, target, workers, progress, overwrite, rerank)
    else:
        done = _pack(checkpoint, target_folder, whole, threads=workers, progress=progress, overwrite=overwrite)
    if checked:
        calibration = Recipe.of(done.recipe).calibration
        done = dataclasses.replace(done, check=check_against(source, target_folder, calibration, threads, rerank))
    write_card(done, os.fspath(source), speed(target_folder, threads) if checked else MEASURE)
    return done


def _recipe_of(recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any] | None) -> Recipe:
    """A recipe in any form that `compress` takes."""
    if recipe is None or isinstance(recipe, Recipe):
        return recipe or Recipe()
    return Recipe.of(recipe) if isinstance(recipe, Mapping) else Recipe.read(recipe)


_pack = pack  # `compress` has an argument of that name

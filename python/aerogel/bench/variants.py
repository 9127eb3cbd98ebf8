"""The forms of a model that are compared: dense fp32, dense int8, and as it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from aerogel.architectures import architecture_of
from aerogel.checkpoint import Checkpoint, open_checkpoint
from aerogel.checkpoint.packed.format import is_packed
from aerogel.compression import pack
from aerogel.compression.recipe import Prune, Quantize, Recipe
from aerogel.errors import RecipeError
from aerogel.quantize import scheme


@dataclass(frozen=True)
class Variant:
    """A packed model under a name, with the kernel format it is loaded in."""

    name: str
    path: str
    format: str = "auto"
    precision: str = "int8"


def kind_of(checkpoint: Checkpoint) -> str:
    """Whether it is an "encoder" or a "decoder"."""
    architecture = architecture_of(checkpoint)
    return "decoder" if architecture.generates else "encoder"


def dense_variants(source: str | os.PathLike[str], work: Path, threads: int | None) -> list[Variant]:
    """Dense fp32 and dense int8 forms of a model, written under `work`."""
    checkpoint = open_checkpoint(source)
    variants = []
    for name, quant, precision in (("dense fp32", "none", "fp32"), ("dense int8", "int8", "int8")):
        path = work / name.replace(" ", "-")
        pack(checkpoint, path, _unpruned(quant), sparse=False, threads=threads)
        variants.append(Variant(name, str(path), "dense", precision))
    return variants


def model_variants(
    folder: str | os.PathLike[str],
    dense: str | os.PathLike[str] | None,
    work: Path,
    threads: int | None,
    quant: str | None = None,
) -> list[Variant]:
    """Dense fp32, dense int8 and the packed model itself, "sparse" or named by its scheme, or a checkpoint in the scheme
    `quant` (int8 unless given) with the zeros that it has.

    Raises:
        RecipeError: there is no such scheme, or the model is packed already.
    """
    if quant is not None:
        scheme(quant)
    checkpoint = open_checkpoint(folder)
    packed = is_packed(checkpoint.path)
    if packed and quant is not None:
        raise RecipeError(f"{checkpoint.path}: a packed model is run as it was packed: leave --quant out")
    variants = dense_variants(dense or folder, work, threads)
    if packed:
        recipe = checkpoint.config["quantization_config"].get("recipe") or {}
        weights = recipe.get("quant") or (recipe.get("quantize") or {}).get(
            "weights"
        )  # older packed models, and newer ones
        precision = "fp32" if weights == "none" else "int8"  # of the products; 4 bits and codebooks run as int8
        name = "sparse" if weights in (None, "int8", "none") else f"packed {weights}"
        return [*variants, Variant(name, os.fspath(folder), "auto", precision)]
    path = work / "sparse"
    pack(checkpoint, path, _unpruned(quant or "int8"), threads=threads)
    precision = "fp32" if quant in ("none", "bf16") else "int8"
    return [*variants, Variant(quant or "sparse", str(path), precision=precision)]


def _unpruned(quant: str) -> Recipe:
    return Recipe(prune=Prune(sparsity=0.0), quantize=Quantize(weights=quant))

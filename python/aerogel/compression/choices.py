"""From a recipe to what becomes of each tensor."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence, Set

from aerogel.architectures import Role, Tensor
from aerogel.budget.bits import AUTO, CHOICES, bits_of
from aerogel.compression.matrix import Choice
from aerogel.compression.recipe import Prune, Recipe
from aerogel.errors import RecipeError
from aerogel.prune import METHODS, Blocks, Pattern, Windowed, parse_pattern
from aerogel.quantize import of_tables
from aerogel.structure import StructureRecipe, score

#: Without calibration texts more than this goes only where a method was named: by magnitude alone a model that was not
#: trained for it loses most of its quality there.
BLIND = 0.5
#: Schemes whose rounding is so coarse that compensation pays.
COARSE = ("int4", "codebook", AUTO)


def resolved(recipe: Recipe) -> Recipe:
    """The recipe with every default that depends on something else spelled out.

    Raises:
        RecipeError: parts contradict each other.
    """
    import dataclasses

    texts = bool(recipe.calibration.files)
    prune, quantize = recipe.prune, recipe.quantize
    sparsity = _sparsity(recipe)
    for wanted in (sparsity or 0.0, *prune.layers.values()):
        refuse_blind(recipe, wanted)
    name = prune.method or ("admm" if texts and sparsity != 0 else "magnitude")
    needs = METHODS[name].needs
    if needs == "gram" and not texts and sparsity != 0:
        raise RecipeError(f"prune.method: {name} needs calibration texts (calibration.files, or --calibrate FILE)")
    if needs == "gradient":
        raise RecipeError(f"prune.method: {name} needs gradients of a loss: use aerogel.train with it")
    if prune.steps > 1 and prune.threshold is not None:
        raise RecipeError("prune.steps: go with a sparsity, not with a threshold")
    weights = quantize.weights
    coarse = weights.startswith(COARSE)
    rounding = quantize.rounding or ("compensated" if coarse and texts else "nearest")
    if rounding == "compensated" and not texts:
        raise RecipeError(
            "quantize.rounding: compensated needs calibration texts (calibration.files, or --calibrate FILE)"
        )
    if recipe.structure is not None and not texts:
        _refuse_unseen(recipe.structure)
    if recipe.fold is not None and not texts:
        raise RecipeError("fold: needs calibration texts (calibration.files, or --calibrate FILE)")
    if quantize.activations == "static" and not texts:
        raise RecipeError(
            "quantize.activations: static needs calibration texts (calibration.files, or --calibrate FILE)"
        )
    automatic = bits_of(weights) is not None
    if automatic:
        _refuse_automatic(recipe, sparsity)
    embeddings = quantize.embeddings or of_tables(CHOICES[0] if automatic else weights)
    return dataclasses.replace(
        recipe,
        prune=dataclasses.replace(prune, method=name, sparsity=sparsity),
        quantize=dataclasses.replace(
            quantize, rounding=rounding, embeddings=embeddings, head=quantize.head or embeddings
        ),
    )


def _refuse_automatic(recipe: Recipe, sparsity: float | None) -> None:
    """Raises RecipeError where a budget of bits cannot be shared out."""
    weights = recipe.quantize.weights
    if not recipe.calibration.files:
        raise RecipeError(
            f"quantize.weights: {weights} needs calibration texts (calibration.files, or --calibrate FILE)"
        )
    if sparsity != 0 or any(recipe.prune.layers.values()):
        raise RecipeError(f"quantize.weights: {weights} shares out the bits of a dense model, it goes with no sparsity")


def _refuse_unseen(structure: StructureRecipe) -> None:
    """Raises RecipeError where units are to be chosen, or made up for, by texts that are not there."""
    units = [kind for kind in ("ffn", "heads", "queries", "hidden") if getattr(structure, kind) is not None]
    needs = [f"score {structure.score!r}"] if score(structure.score).needs != "nothing" else []
    needs += ["compensate"] if structure.compensate else []
    if units and needs:
        raise RecipeError(
            f"structure.{units[0]}: {' and '.join(needs)} need calibration texts (calibration.files, or --calibrate FILE); "
            "without them: structure.score=weights structure.compensate=false"
        )


def refuse_blind(recipe: Recipe, sparsity: float) -> None:
    """Raises RecipeError where a recipe that is not resolved yet takes more weights than can go unseen."""
    if sparsity > BLIND and not recipe.calibration.files and recipe.prune.method is None:
        raise RecipeError(
            f"prune: {sparsity:.0%} sparsity without calibration texts would ruin the model: give texts like those it will "
            f"see (calibration.files, or --calibrate FILE), or at most {BLIND:.0%}; to prune by magnitude all the same, say "
            "so (prune.method: magnitude, or --method magnitude). Zeros that a model has are kept without any sparsity"
        )


def _sparsity(recipe: Recipe) -> float | None:
    """The sparsity that is meant; None with a threshold.

    Raises:
        RecipeError: none is meant, but a setting that only pruning reads is there.
    """
    prune = recipe.prune
    if prune.sparsity is not None or prune.threshold is not None:
        return prune.sparsity
    pattern = parse_pattern(prune.pattern)
    if isinstance(pattern, Windowed):  # the others say no sparsity by themselves
        return pattern.sparsity
    usual = Prune()
    idle = [name for name in ("pattern", "method", "budget", "steps") if getattr(prune, name) != getattr(usual, name)]
    if idle and not prune.layers:
        name = idle[0]
        raise RecipeError(
            f"prune.{name}: {getattr(prune, name)} prunes nothing without a sparsity (prune.sparsity, or --sparsity X)"
        )
    quantize = recipe.quantize
    reads = prune.layers or recipe.structure or recipe.fold or quantize.activations == "static"
    if recipe.calibration.files and not (reads or quantize.rounding or quantize.weights.startswith(COARSE)):
        raise RecipeError(
            f"calibration: nothing uses the texts: {quantize.weights} does not need them, and no weights are to be removed "
            "(prune.sparsity, or --sparsity X)"
        )
    return 0.0


def choices(
    recipe: Recipe,
    tensors: Sequence[Tensor],
    sparsities: Mapping[str, float],
    sparse: bool | None,
    schemes: Mapping[str, str],
    refitted: Set[str] = frozenset(),
) -> dict[str, Choice]:
    """What becomes of every tensor but the kept ones, by name.

    Args:
        recipe: a resolved one.
        tensors: of the architecture.
        sparsities: of the linears, by name.
        sparse: see `Choice`.
        schemes: of linears that have one of their own, by name.
        refitted: heads that are fitted to what the pruned layers make.
    """
    quantize = recipe.quantize
    found = {}
    for tensor in tensors:
        if tensor.role is Role.LINEAR:
            found[tensor.name] = Choice(
                schemes.get(tensor.name, quantize.weights),
                pattern_at(recipe, sparsities[tensor.name]),
                str(recipe.prune.method),
                recipe.prune.steps,
                quantize.rounding == "compensated",
                sparse,
            )
        elif tensor.role in (Role.HEAD, Role.EMBEDDING):
            name = quantize.head if tensor.role is Role.HEAD else quantize.embeddings
            found[tensor.name] = Choice(str(name), sparse=sparse, refit=tensor.name in refitted)
    return found


def pattern_at(recipe: Recipe, sparsity: float) -> Pattern | None:
    """The recipe's pattern at a layer's sparsity; None where nothing goes."""
    if sparsity == 0:
        return None
    pattern = parse_pattern(recipe.prune.pattern)
    return pattern if pattern.sparsity == sparsity else pattern.at(sparsity)


def without_kernel(recipe: Recipe) -> list[str]:
    """A sentence where no kernel uses the blocks that go together: kernels know 2 or 4 rows, and 4 columns."""
    pattern = parse_pattern(recipe.prune.pattern)
    rows = pattern.rows if isinstance(pattern, Blocks | Windowed) else 1
    columns = pattern.columns if isinstance(pattern, Blocks) else 1
    if rows * columns == 1 or rows % 2 == 0 or columns % 4 == 0:
        return []
    return [
        f"pattern {pattern}: no kernel uses blocks of {rows}x{columns}, they run as unstructured zeros do, which cost "
        "less of the quality. Rows that are a multiple of 2 or 4 (4x1), or columns of 4 (1x4), would be faster."
    ]


def own_sparsities(recipe: Recipe, tensors: Sequence[Tensor]) -> dict[str, float]:
    """Sparsities that the recipe gives to single layers, by the tensor's name.

    Raises:
        RecipeError: a name fits no linear.
    """
    linears = [t for t in tensors if t.role is Role.LINEAR]
    found = {}
    for wanted, sparsity in recipe.prune.layers.items():
        fitting = [t for t in linears if fnmatch.fnmatchcase(t.label, wanted) or fnmatch.fnmatchcase(t.name, wanted)]
        if not fitting:
            raise RecipeError(
                f"prune.layers: {wanted!r} fits no layer; layers are called {linears[0].label}, {linears[-1].label}"
            )
        found.update({t.name: sparsity for t in fitting})
    return found

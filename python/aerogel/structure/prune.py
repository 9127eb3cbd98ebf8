"""Structured pruning of a checkpoint: kind by kind, each on what the ones before have left."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aerogel._util.checks import array, float32, instance, shown
from aerogel.architectures import Architecture, Group, Role, architecture_of
from aerogel.calibrate.statistics import Statistics
from aerogel.checkpoint import Checkpoint
from aerogel.errors import DataError, RecipeError, ShapeError
from aerogel.structure.compensate import compensate
from aerogel.structure.layers import layer_weights, remove_layers, source_names
from aerogel.structure.recipe import StructureRecipe, amount_of
from aerogel.structure.scores import score, share
from aerogel.structure.selection import best, rounded, spread
from aerogel.structure.units import connected, cut_statistics, entries, entries_of, remove_units

log = logging.getLogger("aerogel")

#: Kinds of units and what they are, in the order in which they are removed (after whole layers).
KINDS: Mapping[str, str] = {
    "hidden": "channels of the hidden states",
    "heads": "attention heads with their keys and values",
    "queries": "query heads that share keys and values",
    "ffn": "FFN channels",
}


@dataclass(frozen=True)
class _Model:
    checkpoint: Checkpoint
    statistics: Mapping[str, Statistics]
    means: Mapping[str, np.ndarray]


def checked(checkpoint: Checkpoint, recipe: StructureRecipe) -> None:
    """Raises an AerogelError unless these are a checkpoint and a recipe."""
    instance("checkpoint", checkpoint, Checkpoint)
    instance("recipe", recipe, StructureRecipe, RecipeError)


def prune_structure(
    checkpoint: Checkpoint,
    recipe: StructureRecipe,
    statistics: Mapping[str, Statistics] | None = None,
    influence: Sequence[float] | np.ndarray | None = None,
    means: Mapping[str, np.ndarray] | None = None,
) -> Checkpoint:
    """A smaller dense model: what the recipe removes is gone from every tensor, and from the config.

    Args:
        checkpoint: any source; it is not changed, and read again when the result is.
        recipe: what is kept.
        statistics: by the name of a linear's weight what calibration saw at its input. Scores that need them, and
            compensation, want those of every linear that reads the units: ffn.down for FFN channels, attention.out for
            heads; query, key, value, gate and up for hidden channels.
        influence: of each layer, see `aerogel.structure.influence`; needed to choose layers unless by "weights".
        means: by the same names the mean inputs, float32 [K]: what is lost of them goes into the bias, where there is one.

    Returns:
        The smaller checkpoint, which the rest of the pipeline reads like any other. Statistics and accuracy are no longer
        those of the source: calibrate again before pruning or quantizing it.

    Raises:
        RecipeError: it keeps more than there is, or statistics are missing.
    """
    checked(checkpoint, recipe)
    for name, value in (("statistics", statistics), ("means", means)):
        if value is not None:
            instance(name, value, Mapping, RecipeError)
    for name, each in (statistics or {}).items():
        instance(f"statistics: {shown(name)}", each, Statistics, DataError)
    means = {name: float32(f"means: {shown(name)}", mean, 1) for name, mean in (means or {}).items()}
    model = _Model(checkpoint, statistics or {}, means)
    if recipe.layers is not None:
        model = _without_layers(model, recipe, influence)
    for kind in KINDS:
        if getattr(recipe, kind) is not None:
            model = _without_units(model, recipe, kind)
    return model.checkpoint


def _without_layers(model: _Model, recipe: StructureRecipe, influence: Sequence[float] | np.ndarray | None) -> _Model:
    architecture = architecture_of(model.checkpoint)
    assert recipe.layers is not None
    if isinstance(recipe.layers, Sequence):
        kept = list(recipe.layers)
        if kept[-1] >= architecture.layers:
            raise RecipeError(f"layers: expected numbers below {architecture.layers}, got {kept[-1]}")
    else:
        count = max(1, round(amount_of("layers", recipe.layers, architecture.layers)))
        kept = best(_layer_scores(model, architecture, recipe, influence), count).tolist()
    log.info("layers: %s of %d stay", ", ".join(map(str, kept)), architecture.layers)
    names = source_names(architecture, kept)
    return _Model(
        remove_layers(model.checkpoint, architecture, kept),
        {name: model.statistics[source] for name, source in names.items() if source in model.statistics},
        {name: model.means[source] for name, source in names.items() if source in model.means},
    )


def _layer_scores(
    model: _Model, architecture: Architecture, recipe: StructureRecipe, influence: Sequence[float] | np.ndarray | None
) -> np.ndarray:
    if influence is not None:
        values = array("influence", influence, 1).astype(np.float64)
        if len(values) != architecture.layers or not np.isfinite(values).all():
            raise RecipeError(f"influence: expected one number for each of {architecture.layers} layers")
        return values
    if score(recipe.score).needs != "nothing":
        raise RecipeError(
            f"layers: score {recipe.score!r} needs their influence on calibration text; give the layers that stay, "
            "or score 'weights'"
        )
    return layer_weights(model.checkpoint, architecture)


def groups_of(architecture: Architecture, kind: str) -> list[Group]:
    """The groups of units of a kind; raises RecipeError if the model has none that can be removed."""
    groups = [group for group in architecture.groups() if group.kind == kind]
    if not groups:
        raise RecipeError(f"{kind}: the model has no {KINDS[kind]}")
    return groups


def _without_units(model: _Model, recipe: StructureRecipe, kind: str) -> _Model:
    architecture = architecture_of(model.checkpoint)
    groups = groups_of(architecture, kind)
    entry = score(recipe.score)
    if entry.needs == "gram" or recipe.compensate:
        _require_statistics(model, architecture, groups)
    scores = [entry.function(connected(model.checkpoint, group, model.statistics)) for group in groups]
    counts = counts_of(recipe, kind, groups, scores, architecture.layers)
    kept = {
        group: best(values, count, group.sections)
        for group, values, count in zip(groups, scores, counts, strict=True)
        if count < group.count
    }
    for group, count in zip(groups, counts, strict=True):
        log.info("%s: %d of %d %s stay", group.label, count, group.count, kind)
    changed = _compensated(model, kept, recipe.damping) if recipe.compensate else {}
    stay = entries_of(kept)
    return _Model(
        remove_units(model.checkpoint, architecture, kept, changed),
        cut_statistics(model.statistics, stay),
        {name: mean[stay.get(name, {}).get(1, slice(None))] for name, mean in model.means.items()},
    )


def counts_of(
    recipe: StructureRecipe, kind: str, groups: Sequence[Group], scores: Sequence[np.ndarray], layers: int
) -> list[int]:
    """How many units of each group of a kind stay."""
    amount = getattr(recipe, kind)
    multiples = [recipe.multiple if kind in ("ffn", "hidden") else group.sections for group in groups]
    if isinstance(amount, Sequence):
        if len(amount) != layers:
            raise RecipeError(f"{kind}: expected one amount for each of {layers} layers, got {len(amount)}")
        amounts = [amount[group.layer or 0] for group in groups]
    else:
        amounts = [amount] * len(groups)
    wanted = [amount_of(f"{kind}: {g.label}", a, g.count) for g, a in zip(groups, amounts, strict=True)]
    if recipe.scope == "global" and len(groups) > 1:
        if score(recipe.score).needs == "nothing":  # the others are shares of what a linear puts out
            scores = share(scores)
        levels = [_levels(values, group.sections) for group, values in zip(groups, scores, strict=True)]
        return spread(levels, sum(wanted), multiples, [group.minimum for group in groups])
    return [
        rounded(a, group.count, multiple, group.minimum)
        for group, a, multiple in zip(groups, wanted, multiples, strict=True)
    ]


def _levels(scores: np.ndarray, sections: int) -> np.ndarray:
    """Scores such that the best of each section come first together."""
    ordered = -np.sort(-scores.reshape(sections, -1), axis=1)
    return np.repeat(ordered.mean(axis=0), sections)


def _compensated(model: _Model, kept: Mapping[Group, np.ndarray], damping: float) -> dict[str, np.ndarray]:
    """New values of the linears that read the units, and of their biases where the means are known."""
    changed: dict[str, np.ndarray] = {}
    stay = entries_of(kept)
    for group, units in kept.items():
        for part in group.parts:
            known = model.statistics.get(part.tensor) if part.reads else None
            if known is None:
                continue
            bias = part.tensor.removesuffix("weight") + "bias"
            mean = model.means.get(part.tensor) if bias in model.checkpoint else None
            weight = model.checkpoint.array(part.tensor)
            found = compensate(weight, known.gram, entries(part, units), damping, mean)
            rows = stay[part.tensor].get(0, slice(None))  # a linear between hidden states loses outputs too
            changed[part.tensor] = found.weight[rows]
            if found.shift is not None:
                changed[bias] = (model.checkpoint.array(bias) + found.shift)[rows]
    return changed


def _require_statistics(model: _Model, architecture: Architecture, groups: Sequence[Group]) -> None:
    linears = {t.name: t.shape[1] for t in architecture.tensors() if t.role is Role.LINEAR}
    readers = {part.tensor for group in groups for part in group.parts if part.reads and part.tensor in linears}
    missing = sorted(readers - set(model.statistics))
    if missing:
        raise RecipeError(f"statistics of {len(missing)} linears are missing: {', '.join(missing)}")
    for name in sorted(readers):
        got = model.statistics[name].inputs
        if got != linears[name]:
            raise ShapeError(f"{name}: statistics: expected {linears[name]} inputs, got {got}")

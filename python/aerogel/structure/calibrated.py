"""Structured pruning with calibration texts: the model runs once, and each block compensates for the ones before it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aerogel._util.checks import instance, texts
from aerogel.architectures import Group, architecture_of
from aerogel.calibrate import Inputs, Stack, Statistics, Visitor, walk
from aerogel.checkpoint import Checkpoint
from aerogel.errors import RecipeError
from aerogel.structure.compensate import compensate
from aerogel.structure.layers import influence
from aerogel.structure.prune import checked, counts_of, groups_of, prune_structure
from aerogel.structure.recipe import StructureRecipe
from aerogel.structure.scores import score
from aerogel.structure.selection import best
from aerogel.structure.units import connected, entries, remove_units

log = logging.getLogger("aerogel")


def prune_on_texts(
    checkpoint: Checkpoint, recipe: StructureRecipe, sequences: Sequence[Sequence[int]], threads: int | None = None
) -> Checkpoint:
    """`prune_structure` with everything it needs taken from `sequences` of token ids.

    Layers go first, then hidden channels. Heads and FFN channels are removed on the way through the model: the dense model
    runs along, and what reads them is fitted to its results on inputs that the blocks before, already smaller, hand on.

    Args:
        checkpoint: any source; it is not changed.
        recipe: what is kept.
        sequences: token ids of calibration texts, see `aerogel.calibrate.sequences`.
        threads: of the engine; the result is the same.
    """
    checked(checkpoint, recipe)
    uniform_amount = recipe.layers is not None and not isinstance(recipe.layers, Sequence)
    if recipe.layers is not None:
        weighed = influence(checkpoint, sequences, threads) if uniform_amount else None
        checkpoint = prune_structure(checkpoint, _only(recipe, "layers"), influence=weighed)
    if recipe.hidden is not None:
        seen = observe(checkpoint, ["hidden"], sequences, threads)
        checkpoint = prune_structure(checkpoint, _only(recipe, "hidden"), seen)
    wanted = [kind for kind in ("heads", "queries", "ffn") if getattr(recipe, kind) is not None]
    if "heads" in wanted and "queries" in wanted:  # both are columns of the same matrices
        checkpoint = _on_the_way(checkpoint, recipe, ["heads"], sequences, threads)
        wanted.remove("heads")
    return _on_the_way(checkpoint, recipe, wanted, sequences, threads) if wanted else checkpoint


def observe(
    checkpoint: Checkpoint, kinds: Sequence[str], sequences: Sequence[Sequence[int]], threads: int | None = None
) -> dict[str, Statistics]:
    """The statistics of every linear that reads units of these kinds, by the name of its weight."""
    kinds = texts("kinds", kinds, RecipeError)
    architecture = architecture_of(instance("checkpoint", checkpoint, Checkpoint))
    readers = {
        part.tensor for group in architecture.groups() if group.kind in kinds for part in group.parts if part.reads
    }
    visitor = _Observer(checkpoint, readers)
    walk(architecture, checkpoint, sequences, visitor, threads)
    return visitor.statistics


class _Observer(Visitor):
    """Keeps the statistics of some linears."""

    def __init__(self, checkpoint: Checkpoint, readers: set[str]) -> None:
        self.statistics: dict[str, Statistics] = {}
        self._checkpoint = checkpoint
        self._readers = readers

    def visit(self, stack: Stack, inputs: Inputs) -> list[list[np.ndarray]]:
        if self._readers.intersection(stack.names):
            self.statistics.update(dict.fromkeys(stack.names, Statistics.over(inputs)))
        return [[self._checkpoint.weight(name).dense() for name in stack.names]]


def _on_the_way(
    checkpoint: Checkpoint,
    recipe: StructureRecipe,
    kinds: Sequence[str],
    sequences: Sequence[Sequence[int]],
    threads: int | None,
) -> Checkpoint:
    architecture = architecture_of(checkpoint)
    entry = score(recipe.score)
    counts: dict[Group, int] = {}
    # across layers units compare by what they do in the dense model, which takes a pass of its own
    seen = observe(checkpoint, kinds, sequences, threads) if recipe.scope == "global" and entry.needs == "gram" else {}
    for kind in kinds:
        groups = groups_of(architecture, kind)
        if recipe.scope == "global":
            scores = [entry.function(connected(checkpoint, group, seen)) for group in groups]
        else:
            scores = [np.zeros(group.count) for group in groups]
        counts.update(zip(groups, counts_of(recipe, kind, groups, scores, architecture.layers), strict=True))
    visitor = _Shrinking(checkpoint, recipe, counts)
    walk(architecture, checkpoint, sequences, visitor, threads)
    return remove_units(checkpoint, architecture, visitor.kept, visitor.changed)


class _Shrinking(Visitor):
    """Chooses the units that stay at the linear that reads them, and goes on with that linear's new weights."""

    streams = 2

    def __init__(self, checkpoint: Checkpoint, recipe: StructureRecipe, counts: Mapping[Group, int]) -> None:
        self.kept: dict[Group, np.ndarray] = {}
        self.changed: dict[str, np.ndarray] = {}
        self._checkpoint = checkpoint
        self._recipe = recipe
        self._counts = counts
        self._group_of = {part.tensor: group for group in counts for part in group.parts if part.reads}

    def visit(self, stack: Stack, inputs: Inputs) -> list[list[np.ndarray]]:
        dense = [self._checkpoint.weight(name).dense() for name in stack.names]
        group = self._group_of.get(stack.names[0])
        if group is None or self._counts[group] == group.count:
            return [dense, dense]
        [name], [weight] = stack.names, dense
        known = Statistics.over(inputs, 1)
        scores = score(self._recipe.score).function(connected(self._checkpoint, group, {name: known}))
        self.kept[group] = best(scores, self._counts[group], group.sections)
        [part] = [part for part in group.parts if part.tensor == name]
        columns = entries(part, self.kept[group])
        smaller = np.ascontiguousarray(weight[:, columns])
        if self._recipe.compensate:
            cross, whole = np.zeros_like(known.gram), 0.0
            for seen in inputs:
                x, p = seen.x
                counts = np.ones(len(x), np.float32) if seen.weight is None else seen.weight
                cross += x.T @ (p * counts[:, None])
                whole += float(counts.sum(dtype=np.float64))
            cross /= np.float32(whole)
            smaller = compensate(weight, known.gram, columns, self._recipe.damping, cross=cross).weight
        self.changed[name] = smaller
        log.info("%s: %d of %d %s stay", group.label, len(self.kept[group]), group.count, group.kind)
        filled = np.zeros_like(weight)  # the same as without the other columns
        filled[:, columns] = smaller
        return [dense, [filled]]


def _only(recipe: StructureRecipe, kind: str) -> StructureRecipe:
    others: dict[str, Any] = dict.fromkeys({"ffn", "heads", "queries", "hidden", "layers"} - {kind})
    return replace(recipe, **others)

"""Structured pruning: FFN channels, attention heads, hidden channels and whole layers are removed, which leaves a smaller
dense model.

    recipe = StructureRecipe(ffn=0.75, heads=0.5, score="contribution")
    smaller = prune_on_texts(checkpoint, recipe, sequences)       # a checkpoint like any other
    smaller = prune_structure(checkpoint, recipe, statistics)     # the same with given statistics, or with none

What belongs to a unit is declared by its architecture, in the names of its tensors' axes (`Architecture.groups`); everything
here works on that. A score is one pure function and one row in SCORES.
"""

from __future__ import annotations

from aerogel.structure.calibrated import observe, prune_on_texts
from aerogel.structure.compensate import Compensated, compensate
from aerogel.structure.layers import influence
from aerogel.structure.prune import KINDS, prune_structure
from aerogel.structure.recipe import StructureRecipe
from aerogel.structure.scores import SCORES, ScoreEntry, score
from aerogel.structure.smaller import Smaller

__all__ = [
    "KINDS",
    "SCORES",
    "Compensated",
    "ScoreEntry",
    "Smaller",
    "StructureRecipe",
    "compensate",
    "influence",
    "observe",
    "prune_on_texts",
    "prune_structure",
    "score",
]

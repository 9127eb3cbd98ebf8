"""Units out of a model: what they are connected by goes together. For every kind that an architecture declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from aerogel.architectures import Architecture, Group, Part
from aerogel.calibrate.statistics import Statistics
from aerogel.checkpoint import Checkpoint
from aerogel.structure.scores import Connected
from aerogel.structure.smaller import Piece, Smaller
from aerogel.structure.widths import without_units


def remove_units(
    checkpoint: Checkpoint,
    architecture: Architecture,
    kept: Mapping[Group, np.ndarray],
    changed: Mapping[str, np.ndarray] | None = None,
) -> Smaller:
    """The checkpoint with only the units `kept` of each group (of one kind, so that no axis is cut twice).

    Args:
        architecture: the checkpoint's.
        kept: the numbers of the units that stay, in order; groups that are not named stay whole.
        changed: values of tensors of the result that are not just a part of the source's.
    """
    entries = entries_of(kept)
    config = without_units(architecture, checkpoint.config, {group: len(units) for group, units in kept.items()})
    family = type(architecture)(config, checkpoint.names(), architecture.pooling)
    changed = changed or {}
    pieces = {t.name: Piece(t.name, entries.get(t.name, {}), changed.get(t.name)) for t in family.tensors()}
    return Smaller(checkpoint, config, pieces)


def entries_of(kept: Mapping[Group, np.ndarray]) -> dict[str, dict[int, np.ndarray]]:
    """For each tensor and axis the entries that stay."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for group, units in kept.items():
        for part in group.parts:
            found.setdefault(part.tensor, {})[part.axis] = entries(part, units)
    return found


def entries(part: Part, units: np.ndarray) -> np.ndarray:
    """The entries of the part's axis that belong to the units."""
    return (np.asarray(units, np.int64)[:, None] * part.size + np.arange(part.size)).ravel()


def connected(checkpoint: Checkpoint, group: Group, statistics: Mapping[str, Statistics]) -> Iterator[Connected]:
    """The tensors that the units are connected by, one after the other."""
    for part in group.parts:
        known = statistics.get(part.tensor) if part.reads else None
        yield Connected(checkpoint.array(part.tensor), part.axis, part.size, None if known is None else known.gram)


def cut_statistics(
    statistics: Mapping[str, Statistics], kept: Mapping[str, Mapping[int, np.ndarray]]
) -> dict[str, Statistics]:
    """What the statistics say of the inputs that stay (as they were before anything was removed)."""
    found: dict[str, Statistics] = {}
    cut: dict[int, tuple[np.ndarray, Statistics]] = {}  # linears that share their input share their statistics
    for name, known in statistics.items():
        stay = kept.get(name, {}).get(1)
        if stay is None:
            found[name] = known
            continue
        if not len(stay):
            continue
        before = cut.get(id(known))
        if before is None or not np.array_equal(before[0], stay):
            part = replace(known, gram=known.gram[np.ix_(stay, stay)], largest=known.largest[stay])
            before = cut[id(known)] = (stay, part)
        found[name] = before[1]
    return found

"""The scheme of each linear where the recipe says how many bits a weight may have on average."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aerogel.architectures import Architecture, Role
from aerogel.budget.bits import CHOICES, bits_of, share_bits
from aerogel.calibrate.moves import squares_of
from aerogel.checkpoint import Checkpoint
from aerogel.compression.recipe import Recipe
from aerogel.numbers.bits import bits_for
from aerogel.quantize import Quantized, scheme


def schemes_of(
    recipe: Recipe, architecture: Architecture, checkpoint: Checkpoint, sequences: Sequence[Sequence[int]] | None
) -> dict[str, str]:
    """By name; empty where the recipe names one scheme for all.

    Each candidate is costed by what its rounding, to the nearest codes, does to the dense model's output. Matrices that are
    run as one share a scheme, so that one kernel serves them.
    """
    bits = bits_of(recipe.quantize.weights)
    if bits is None or sequences is None:
        return {}
    linears = {tensor.name for tensor in architecture.tensors() if tensor.role is Role.LINEAR}
    stacks = {names[0]: names for names in architecture.stacks() if linears.issuperset(names)}
    squares = squares_of(architecture, checkpoint, sequences, linears, recipe.seed)
    costs: dict[str, dict[str, float]] = {}
    sizes: dict[str, dict[str, float]] = {}
    elements = 0
    for first, names in stacks.items():
        costs[first], sizes[first] = dict.fromkeys(CHOICES, 0.0), dict.fromkeys(CHOICES, 0.0)
        for name in names:
            weight, square = checkpoint.weight(name).dense(), squares.pop(name, None)
            elements += weight.size
            for each in CHOICES:
                quantized = scheme(each)(weight)
                sizes[first][each] += _bits(quantized)
                if square is not None:
                    error = np.square(quantized.dense() - weight)
                    costs[first][each] += float(np.vdot(error, square))
    chosen = share_bits(costs, sizes, bits * elements)
    return {name: chosen[first] for first, names in stacks.items() for name in names}


def _bits(quantized: Quantized) -> int:
    """What it takes in a file that leaves nothing out."""
    each = 8 * quantized.values.itemsize if quantized.levels is None else bits_for(len(quantized.levels))
    tables = (quantized.scale, quantized.levels, quantized.multiplier, quantized.offset)
    return each * quantized.values.size + sum(8 * table.nbytes for table in tables if table is not None)

"""Weights of a checkpoint as a packer reads them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from aerogel._core import WeightSource, decode_blocks
from aerogel.checkpoint.blocks import Blocks
from aerogel.checkpoint.weight import Weight

log = logging.getLogger("aerogel")


def _kind(part: Weight | Blocks) -> tuple[str, int]:
    """What parts must share to be stacked as they are."""
    if isinstance(part, Blocks):
        return "blocks", 0  # of any types
    return part.numbers, part.group if part.numbers == "int8g" else 0


def weight_source(parts: Sequence[tuple[str, Weight | Blocks]]) -> tuple[WeightSource, list[np.ndarray]]:
    """Weights of a checkpoint stacked along N, ready to be packed, and the arrays that must live as long."""
    # e.g. only one of Q, K, V was quantized: exact, at the price of float arithmetic
    mixed = len({_kind(part) for _, part in parts}) > 1
    if mixed:
        log.info(
            "%s: parts of several types are stacked, so all of them run as float32", ", ".join(n for n, _ in parts)
        )
    source = WeightSource(parts[0][1].shape[1])
    alive: list[np.ndarray] = []

    def keep(array: np.ndarray) -> np.ndarray:
        alive.append(np.ascontiguousarray(array))
        return alive[-1]

    def keep_any(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else keep(array)

    for label, part in parts:
        n = part.shape[0]
        if isinstance(part, Blocks):
            if mixed:
                source.add_dense(label, keep(decode_blocks(part.values, part.type)))
            else:
                source.add_blocks(label, keep(part.values), part.type)
            continue
        if mixed and part.numbers != "float32":
            source.add_dense(label, keep(np.asarray(part.dense(), np.float32)))
            continue
        values, scale, mask = keep(part.values), keep_any(part.scale), keep_any(part.mask)
        if part.levels is not None:
            assert scale is not None  # levels have one
            table = keep_any(part.multiplier), keep_any(part.zero), part.group, keep_any(part.offset)
            source.add_indexed(label, n, values, part.bits, keep(part.levels), scale, mask, *table)
        elif mask is not None:
            source.add_bitmask(label, n, mask, values, scale, part.group)
        elif scale is not None:
            source.add_dense_q8(label, values, scale, part.group)
        else:
            source.add_dense(label, values)
    return source, alive

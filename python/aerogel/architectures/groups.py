"""What of a model can be removed whole: units, and the tensors that each of them is spread over.

A unit is one FFN channel, one attention head or one channel of the hidden states. Removing it removes a block of entries
from an axis of several tensors at once, what writes it and what reads it, and makes some widths of the config smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """Unit u of a group is the entries u * size .. (u + 1) * size - 1 of an axis of a tensor.

    `reads` says that the tensor is a linear and the units its inputs; else it makes or changes them.
    """

    tensor: str
    axis: int
    size: int
    reads: bool


@dataclass(frozen=True, eq=False)
class Group:
    """Units of one kind that are alike: the channels of one FFN, the heads of one attention, the hidden channels.

    Attributes:
        kind: "ffn", "heads" (with their keys and values; where queries share them, all that do), "queries" (query heads
            that share keys and values with others) or "hidden".
        label: for messages, `layers.3.ffn`.
        count: how many units there are.
        parts: where they are.
        widths: config keys and by how much each shrinks per removed unit.
        layer: None if the units belong to the whole model.
        sections: the units lie in so many equal ranges, and each must keep the same number of them.
        minimum: fewest units that may stay.
    """

    kind: str
    label: str
    count: int
    parts: tuple[Part, ...]
    widths: Mapping[str, int]
    layer: int | None = None
    sections: int = 1
    minimum: int = 1

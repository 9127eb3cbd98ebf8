"""What a model family says of its tensors: names, shapes, what compression does with them, where scales can be moved."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np


class Role(Enum):
    """What compression does with a tensor."""

    LINEAR = "linear"  # pruned and quantized
    HEAD = "head"  # quantized, not pruned: output layers lose far more by pruning than they weigh
    EMBEDDING = "embedding"  # quantized row by row
    KEPT = "kept"  # float32: norms, biases


@dataclass(frozen=True)
class Tensor:
    """A parameter that an architecture reads: its name in the checkpoint, its shape, and its role.

    `label` is the short name in messages (`layers.3.ffn.up`). `axes` names what each axis runs over ("hidden",
    "layers.3.ffn"): axes of one name belong together and shrink together; "" is an axis that never does.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    label: str
    axes: tuple[str, ...] = ()

    @staticmethod
    def over(name: str, label: str, role: Role, *axes: tuple[int, str]) -> Tensor:
        """A tensor by the size and the name of each of its axes."""
        return Tensor(name, tuple(size for size, _ in axes), role, label, tuple(axis for _, axis in axes))


@dataclass(frozen=True, eq=False)
class Fold:
    """Where the scale of a linear's input channels can be moved to: x / s is made by dividing what makes x.

    Attributes:
        readers: the stack of linears that read x; nothing else does.
        makers: tensors whose entries along their first axis make the channels of x: a norm's vectors, or the weight and bias
            of a linear.
        columns: int64 [K]: the entry that makes channel k; None: entry k.
        offset: what the model adds to the makers' entries, where they are a norm's: (maker + offset) is what is divided.
    """

    readers: tuple[str, ...]
    makers: tuple[str, ...]
    columns: np.ndarray | None = None
    offset: float = 0.0

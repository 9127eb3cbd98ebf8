"""A checkpoint that is a part of another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aerogel.checkpoint.checkpoint import Checkpoint
from aerogel.checkpoint.derived import Derived
from aerogel.checkpoint.weight import Weight, check_matrix
from aerogel.errors import MissingTensorsError


class Piece(NamedTuple):
    """Where a tensor comes from: its name there, and the entries that stay of an axis (all unless named).

    `values`, float32, stand in place of all that.
    """

    source: str
    entries: Mapping[int, np.ndarray]
    values: np.ndarray | None = None


class Smaller(Derived):
    """Some tensors of a source, or parts of them, under a config of their own; cut when they are read.

    Only values that were changed are held in memory.
    """

    def __init__(self, source: Checkpoint, config: dict[str, Any], pieces: Mapping[str, Piece]) -> None:
        super().__init__(source, config, pieces)
        self._pieces = dict(pieces)

    def __contains__(self, name: object) -> bool:
        return name in self._pieces

    def shape(self, name: str) -> tuple[int, ...]:
        piece = self._find(name)
        if piece.values is not None:
            return piece.values.shape
        shape = self._source.shape(piece.source)
        return tuple(len(piece.entries[axis]) if axis in piece.entries else n for axis, n in enumerate(shape))

    def array(self, name: str) -> NDArray[np.float32]:
        piece = self._find(name)
        if piece.values is not None:
            return piece.values
        array = self._source.array(piece.source)
        for axis, entries in piece.entries.items():
            array = np.take(array, entries, axis=axis)
        return np.ascontiguousarray(array)

    def weight(self, name: str) -> Weight:
        piece = self._find(name)
        if piece.values is None and not piece.entries:
            return self._source.weight(piece.source)
        shape = check_matrix(name, self.shape(name))
        return Weight(shape, self.array(name))

    def _find(self, name: str) -> Piece:
        piece = self._pieces.get(name)
        if piece is None:
            raise MissingTensorsError(self.path, [name])
        return piece

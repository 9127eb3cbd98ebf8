"""Texts as weights of a vocabulary's terms: vectors that are nearly all zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aerogel.engine.tensors import torch_module
from aerogel.errors import ShapeError


@dataclass(frozen=True, eq=False)
class SparseVectors:
    """n vectors, row by row (CSR).

    Attributes:
        offsets: int64 [n+1]: row i has the entries offsets[i] .. offsets[i+1] - 1.
        terms: int32: the ids of the terms, ascending in each row.
        weights: float32, positive.
        width: how many terms there are.
    """

    offsets: np.ndarray
    terms: np.ndarray
    weights: np.ndarray
    width: int

    @staticmethod
    def of(dense: np.ndarray, most: int | None = None) -> SparseVectors:
        """The positive entries of float32 [n, width]; of each row the `most` largest, if it is given."""
        if most is not None and most < dense.shape[1]:
            dense = dense.copy()
            small = np.argpartition(-dense, most, axis=1)[:, most:]
            np.put_along_axis(dense, small, 0, axis=1)
        rows, terms = np.nonzero(dense > 0)
        offsets = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=len(dense))))).astype(np.int64)
        return SparseVectors(offsets, terms.astype(np.int32), dense[rows, terms], dense.shape[1])

    @staticmethod
    def joined(parts: list[SparseVectors], width: int) -> SparseVectors:
        """The rows of all parts, in their order."""
        lengths = [np.diff(part.offsets) for part in parts] or [np.empty(0, np.int64)]
        offsets = np.concatenate(([0], np.cumsum(np.concatenate(lengths)))).astype(np.int64)
        terms = np.concatenate([part.terms for part in parts] or [np.empty(0, np.int32)])
        weights = np.concatenate([part.weights for part in parts] or [np.empty(0, np.float32)])
        return SparseVectors(offsets, terms, weights, width)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """(n, width)."""
        return len(self), self.width

    def row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """The terms and the weights of one vector."""
        if not 0 <= i < len(self):
            raise ShapeError(f"row: expected 0 to {len(self) - 1}, got {i!r:.80}")
        part = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return self.terms[part], self.weights[part]

    def toarray(self) -> np.ndarray:
        """float32 [n, width], zeros and all."""
        found = np.zeros(self.shape, np.float32)
        found[np.repeat(np.arange(len(self)), np.diff(self.offsets)), self.terms] = self.weights
        return found

    def dot(self, other: SparseVectors) -> np.ndarray:
        """float32 [n, m]: the dot products with every vector of `other`."""
        if self.width != other.width:
            raise ShapeError(f"expected vectors of {self.width} terms, got {other.width}")
        found = np.empty((len(self), len(other)), np.float32)
        column = np.zeros(self.width, np.float32)
        rows = np.repeat(np.arange(len(other)), np.diff(other.offsets))
        for i in range(len(self)):
            terms, weights = self.row(i)
            column[terms] = weights
            found[i] = np.bincount(rows, column[other.terms] * other.weights, len(other))
            column[terms] = 0
        return found

    def totensor(self) -> Any:
        """PyTorch's sparse tensor (COO) [n, width]. Raises AerogelError where PyTorch is not installed."""
        torch = torch_module()
        rows = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        places = torch.from_numpy(np.stack([rows, self.terms.astype(np.int64)]))
        values = torch.from_numpy(self.weights.copy())
        return torch.sparse_coo_tensor(places, values, self.shape, is_coalesced=True, check_invariants=True)

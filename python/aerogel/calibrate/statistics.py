"""What pruning and quantization need to know of the inputs of a linear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aerogel._util.checks import float32, instance, whole_number
from aerogel.errors import DataError, ShapeError

if TYPE_CHECKING:
    from aerogel.calibrate.visitor import Inputs


@dataclass(frozen=True)
class Statistics:
    """What calibration saw at the input x [tokens, K] of one linear (or of linears that share their input).

    The gram matrix may be singular: fewer tokens than inputs, or inputs that are always 0.

    Attributes:
        tokens: how many rows of x there were.
        gram: float32 [K, K]: mean over tokens of x x^T, symmetric; a weighted mean where errors of tokens count differently.
        largest: float32 [K]: max |x|.
        moves: what an error of the linear's result does to the model's: float32 [N, N], see `moves.py`; float32 [N],
            only the diagonal; or None: not known.

    Raises:
        ShapeError, DataError: these are not statistics of any x.
    """

    tokens: int
    gram: np.ndarray
    largest: np.ndarray
    moves: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("gram", "largest"):
            instance(f"statistics: {name}", getattr(self, name), np.ndarray, ShapeError)
        whole_number("statistics: tokens", self.tokens, 1, error=DataError)
        if self.gram.ndim != 2 or self.gram.shape[0] != self.gram.shape[1]:
            raise ShapeError(f"gram: expected [K, K], got {list(self.gram.shape)}")
        if self.largest.shape != (self.inputs,):
            raise ShapeError(f"largest: expected [{self.inputs}], got {list(self.largest.shape)}")
        if self.gram.dtype != np.float32 or self.largest.dtype != np.float32:
            raise ShapeError(f"statistics: expected float32, got {self.gram.dtype} and {self.largest.dtype}")
        # one reduction instead of a matrix of flags: NaN and infinities survive the sum
        if not np.isfinite(self.gram.sum(dtype=np.float64)) or not np.isfinite(self.largest.sum(dtype=np.float64)):
            raise DataError("statistics: hold NaN or infinite values")
        if self.gram.diagonal().min(initial=0) < 0 or self.largest.min(initial=0) < 0:
            raise DataError("statistics: expected no negative square")
        if self.moves is not None:
            _check_moves(self.moves)

    @property
    def inputs(self) -> int:
        """K."""
        return int(self.gram.shape[0])

    @property
    def norms(self) -> np.ndarray:
        """float32 [K]: the root of the mean square of each input."""
        roots: np.ndarray = np.sqrt(self.gram.diagonal())
        return roots

    @staticmethod
    def of(x: np.ndarray) -> Statistics:
        """The statistics of inputs that are all there at once, float [tokens, K]."""
        moments = Moments()
        moments.add(x)
        return moments.statistics()

    @staticmethod
    def over(inputs: Inputs, stream: int = 0) -> Statistics:
        """The statistics of one stream of inputs."""
        moments = Moments()
        for part in inputs.each(lambda seen: Moments.of(seen.x[stream], seen.weight)):
            moments.join(part)
        return moments.statistics()


def _check_moves(moves: np.ndarray) -> None:
    if moves.dtype != np.float32 or moves.ndim not in (1, 2) or moves.shape[0] != moves.shape[-1]:
        raise ShapeError(f"moves: expected float32 [N, N] or [N], got {moves.dtype} {list(moves.shape)}")
    if not np.isfinite(moves.sum(dtype=np.float64)):
        raise DataError("moves: holds NaN or infinite values")


class Moments:
    """What statistics are made of, added up over blocks of inputs."""

    def __init__(self) -> None:
        self.tokens = 0
        self.weight = 0.0
        self._gram = np.zeros((0, 0), np.float32)
        self._largest = np.zeros(0, np.float32)

    def add(self, x: np.ndarray, weight: np.ndarray | None = None) -> None:
        """A block, float [tokens, K]; weight: float32 [tokens], of each token in the gram matrix."""
        x = float32("x", x, 2)
        if not len(x):
            raise ShapeError(f"x: expected [tokens, K] with at least one token, got {list(x.shape)}")
        if self.tokens and x.shape[1] != len(self._largest):
            raise ShapeError(f"x: expected [tokens, {len(self._largest)}], got {list(x.shape)}")
        if weight is not None:
            weight = float32("weight", weight)
            if weight.shape != (len(x),) or not weight.min(initial=0) >= 0:
                raise ShapeError(f"weight: expected one number for each of {len(x)} tokens, none of them negative")
        rows = x if weight is None else x * np.sqrt(weight)[:, None]
        part = Moments()
        part._gram, part._largest = rows.T @ rows, np.maximum(x.max(axis=0), -x.min(axis=0))
        part.tokens, part.weight = len(x), len(x) if weight is None else float(weight.sum(dtype=np.float64))
        self.join(part)

    @staticmethod
    def of(x: np.ndarray, weight: np.ndarray | None = None) -> Moments:
        """Those of one block."""
        moments = Moments()
        moments.add(x, weight)
        return moments

    def join(self, other: Moments) -> None:
        """Adds what another has, of as many inputs; the other one is not used any more."""
        if self.tokens:
            self._gram += other._gram
            np.maximum(self._largest, other._largest, out=self._largest)
        else:
            self._gram, self._largest = other._gram, other._largest
        self.tokens += other.tokens
        self.weight += other.weight

    @property
    def total(self) -> np.ndarray:
        """float32 [K, K]: the sum of the weighted x x^T so far; a copy."""
        total: np.ndarray = self._gram.copy()
        return total

    def statistics(self) -> Statistics:
        """Of all that was added, at least one token."""
        if not self.tokens:
            raise DataError("statistics: expected at least one token, got none")
        return Statistics(self.tokens, self._gram / np.float32(self.weight or 1), self._largest)

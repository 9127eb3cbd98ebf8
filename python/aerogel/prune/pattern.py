"""Sparsity patterns: given a score for every weight, which ones are kept.

A score has the unit of a weight: what removing it would change. Weights that can only go together are scored by the root
of the sum of their squares.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from aerogel._util.checks import array, flag, number, whole_number
from aerogel._util.checks import text as a_text
from aerogel.errors import DataError, RecipeError
from aerogel.prune.choose import first_largest, largest, largest_of_rows

#: Columns of a window of `Windowed`: what one register of the widest kernels gathers from.
WINDOW = 64


class Pattern(ABC):
    """The positions that may hold a nonzero weight."""

    @property
    @abstractmethod
    def sparsity(self) -> float:
        """Fraction of weights that go."""

    @abstractmethod
    def at(self, sparsity: float) -> Pattern:
        """The same pattern with another sparsity; RecipeError if its shape fixes it to something else."""

    @abstractmethod
    def step(self, block: int) -> int:
        """How many columns a method that goes through them from left to right decides about at once: about `block`, or as
        few as the pattern allows if it chooses within windows.
        """

    @abstractmethod
    def part(self, begin: int, end: int, shape: tuple[int, int]) -> Pattern:
        """What columns [begin, end) of a matrix of `shape` follow, begin a multiple of `step`: the parts together have
        exactly the sparsity of the whole.
        """

    @abstractmethod
    def select(self, score: np.ndarray, per_row: bool) -> np.ndarray:
        """`keep` without its checks."""

    def keep(self, score: np.ndarray, per_row: bool = False) -> np.ndarray:
        """The highest scores that the pattern allows; among equals the first in row-major order.

        Args:
            score: float [N,K], not NaN and not negative.
            per_row: scores compete within their row only, and each row (or block of rows) keeps the same number, to one.

        Returns:
            bool [N,K], True where the weight is kept.
        """
        score = checked_score(score)
        return self.select(score, flag("per_row", per_row, RecipeError))


@dataclass(frozen=True)
class Unstructured(Pattern):
    """Any positions: exactly round(sparsity * N * K) weights of the matrix are removed."""

    sparsity: float = 0.8

    def __post_init__(self) -> None:
        _check_sparsity(self.sparsity)

    def __str__(self) -> str:
        return "unstructured"

    def at(self, sparsity: float) -> Unstructured:
        return replace(self, sparsity=sparsity)

    def step(self, block: int) -> int:
        return block

    def part(self, begin: int, end: int, shape: tuple[int, int]) -> Unstructured:
        return self.at(_sparsity_of_part(shape[0], begin, end, self.sparsity))

    def select(self, score: np.ndarray, per_row: bool) -> np.ndarray:
        return largest_of_rows(score, self.sparsity) if per_row else largest(score, self.sparsity)


@dataclass(frozen=True)
class Windowed(Pattern):
    """`q` weights stay in each `window` columns of every row ("8:64", "2:4"), or of every `rows` neighbouring rows, which share
    a mask ("8:64x4").

    A last window of r columns keeps ceil(q * r / window), so it is never sparser than the others. Weights of rows that share
    a mask compete by the root of the mean of their squares; the last rows may be fewer.
    """

    q: int
    window: int = WINDOW
    rows: int = 1

    def __post_init__(self) -> None:
        window = whole_number("pattern: M of N:M", self.window, 2, WINDOW, RecipeError)
        whole_number("pattern: N of N:M", self.q, 1, window, RecipeError)
        whole_number("pattern: R of N:MxR", self.rows, 1, 64, RecipeError)

    def __str__(self) -> str:
        return f"{self.q}:{self.window}" + (f"x{self.rows}" if self.rows > 1 else "")

    @property
    def sparsity(self) -> float:
        return 1 - self.q / self.window

    def at(self, sparsity: float) -> Windowed:
        _check_sparsity(sparsity)
        if not abs(sparsity - self.sparsity) <= 1e-6:
            raise RecipeError(f"sparsity: {sparsity} contradicts the pattern {self}, which is {self.sparsity:g} sparse")
        return self

    def step(self, block: int) -> int:
        return self.window

    def part(self, begin: int, end: int, shape: tuple[int, int]) -> Windowed:
        return self

    def select(self, score: np.ndarray, per_row: bool) -> np.ndarray:
        if self.rows == 1:
            return self._select(score)
        return self._select(pooled(score, self.rows, 1, "l2")).repeat(self.rows, axis=0)[: len(score)]

    def _select(self, score: np.ndarray) -> np.ndarray:
        n, k = score.shape
        whole = k - k % self.window
        mask = np.empty((n, k), bool)
        mask[:, :whole] = first_largest(score[:, :whole].reshape(-1, self.window), self.q).reshape(n, whole)
        mask[:, whole:] = first_largest(score[:, whole:], -(-self.q * (k - whole) // self.window))
        return mask


@dataclass(frozen=True)
class Blocks(Pattern):
    """Blocks of `rows` x `columns` neighbours are removed together ("1x4": four in a row, "2x1": two rows share one mask).

    Exactly round(sparsity * blocks) blocks are removed. Those at a ragged edge are smaller; a block's score is the root of
    the mean of the squares of what is in it (`combine="sum"`: the mean), so that blocks of different sizes compare.
    """

    rows: int
    columns: int
    sparsity: float = 0.8
    combine: str = "l2"

    def __post_init__(self) -> None:
        _check_sparsity(self.sparsity)
        rows, columns = (
            whole_number(f"pattern: {name}", value, 1, 64, RecipeError)
            for name, value in (("rows", self.rows), ("columns", self.columns))
        )
        if rows * columns == 1:
            raise RecipeError(f"pattern: expected blocks from 1x2 or 2x1 to 64x64, got {self.rows}x{self.columns}")
        if not isinstance(self.combine, str) or self.combine not in ("l2", "sum"):
            raise RecipeError(
                f"pattern: expected the scores of a block to be combined by l2 or sum, got {self.combine!r}"
            )

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}" + (":sum" if self.combine == "sum" else "")

    def at(self, sparsity: float) -> Blocks:
        return replace(self, sparsity=sparsity)

    def step(self, block: int) -> int:
        return max(block - block % self.columns, self.columns)

    def part(self, begin: int, end: int, shape: tuple[int, int]) -> Blocks:
        rows = -(-shape[0] // self.rows)
        return self.at(_sparsity_of_part(rows, begin // self.columns, -(-end // self.columns), self.sparsity))

    def select(self, score: np.ndarray, per_row: bool) -> np.ndarray:
        n, k = score.shape
        of_blocks = pooled(score, self.rows, self.columns, self.combine)
        mask = largest_of_rows(of_blocks, self.sparsity) if per_row else largest(of_blocks, self.sparsity)
        return mask.repeat(self.rows, axis=0)[:n].repeat(self.columns, axis=1)[:, :k]

def pooled(score: np.ndarray, rows: int, columns: int, combine: str) -> np.ndarray:
    """float64 [ceil(N/rows), ceil(K/columns)]: the mean of each block's scores, or with "l2" of their squares."""
    n, k = score.shape
    if score.size == 0:
        return np.zeros((-(-n // rows), -(-k // columns)))
    values = score.astype(np.float64)  # squares of float32 do not underflow
    if combine == "l2":
        values *= values
    begin_n, begin_k = np.arange(0, n, rows), np.arange(0, k, columns)
    total = np.add.reduceat(np.add.reduceat(values, begin_k, axis=1), begin_n, axis=0)
    mean: np.ndarray = total / (np.diff(begin_n, append=n)[:, None] * np.diff(begin_k, append=k))
    return mean


def checked_score(score: np.ndarray) -> np.ndarray:
    """The scores as an array [N,K], none of them NaN or negative.

    Raises:
        ShapeError, DataError: they are not.
    """
    score = array("score", score, 2, kinds="fiu")
    if not score.min(initial=0) >= 0:  # also refuses NaN
        raise DataError("score: holds NaN or negative values")
    return score


def parse_pattern(text: str, sparsity: float | None = None) -> Pattern:
    """The pattern that `text` names.

    "unstructured", or blocks "RxC" ("1x4"; "4x1" and "2x1": that many rows share a mask; "1x4:sum"), with the given sparsity,
    0.8 unless given; or "N:M" ("8:64", "2:4"), where N of M columns are kept, or "N:MxR" ("8:64x4"), where R rows share them.
    These have their own sparsity, 1 - N/M; giving a different one is an error.
    """
    a_text("pattern", text, RecipeError)
    if sparsity is not None:
        _check_sparsity(sparsity)
    if text == "unstructured":
        return Unstructured(0.8 if sparsity is None else sparsity)
    if match := re.fullmatch(r"([0-9]{1,2})x([0-9]{1,2})(:sum)?", text):
        combine = "sum" if match[3] else "l2"
        return Blocks(int(match[1]), int(match[2]), 0.8 if sparsity is None else sparsity, combine)
    if match := re.fullmatch(r"([0-9]{1,2}):([0-9]{1,2})(?:x([0-9]{1,2}))?", text):
        pattern = Windowed(int(match[1]), int(match[2]), int(match[3] or 1))
        return pattern if sparsity is None else pattern.at(sparsity)
    raise RecipeError(
        f"pattern: expected unstructured, N:M (such as 8:{WINDOW} or 2:4), N:MxR (8:{WINDOW}x4), or blocks (1x4, 4x1, 2x1), "
        f"got {text!r:.80}"
    )


def _check_sparsity(sparsity: float) -> None:
    number("sparsity", sparsity, 0, 1, RecipeError)


def _sparsity_of_part(rows: int, begin: int, end: int, sparsity: float) -> float:
    size = rows * (end - begin)
    return (round(sparsity * rows * end) - round(sparsity * rows * begin)) / max(1, size)

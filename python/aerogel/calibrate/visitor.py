"""What calibration shows of a linear, and who looks at it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from aerogel._util.workers import side_by_side
from aerogel.calibrate.values import Streams, Value

Result = TypeVar("Result")

#: A mean square that is smaller is no result: the row does not count.
SMALLEST = 1e-20


@dataclass(frozen=True)
class Stack:
    """Matrices that are run as one linear: they share their input.

    Attributes:
        names: of the parameters.
        label: what the program calls the linear.
        outputs: rows of each.
    """

    names: tuple[str, ...]
    label: str
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Seen:
    """What a linear reads of a block of texts.

    Attributes:
        x: float32 [rows, K] of each stream; one and the same array while streams do not differ.
        weight: float32 [rows], not negative: how much an error of each row's result counts, see `Inputs`; None: all alike.
        lacking: float32 [rows, N] if the result is added to a residual that differs between two streams: what the second
            one lacks of the first; or None.
        made: what the dense model's linear makes of the first stream without its bias, float32 [rows, N]; whoever asks for
            it returns the dense weights for that stream, which then has these results and is not computed again. None: it is
            wider than x, or there is one stream only.
    """

    x: Streams
    weight: np.ndarray | None
    lacking: np.ndarray | None
    made: Callable[[], np.ndarray] | None = None


@dataclass(frozen=True)
class Inputs:
    """What a linear reads, block after block. To go through them again computes the widest values again.

    Where results are added to a residual, what reads the sum normalizes it: an error counts in proportion to the sum. In
    language models the sums of a few tokens (often the first of a text) are hundreds of times larger than those of all
    others (Sun et al., arXiv 2402.17762), so that unweighted they would decide alone what a layer is fitted to. Hence

        weight = 1 / (mean r^2 + gain mean x^2)        r: the residual, gain mean x^2: about the mean square of the result

    of the first stream.
    """

    _x: Value
    _residual: Value | None = None
    _gain: float = 0.0
    _dense: Value | None = None

    @property
    def differs(self) -> bool:
        """Whether the streams are not one and the same."""
        return self._x.differs

    def __iter__(self) -> Iterator[Seen]:
        return map(self._seen, range(self._x.blocks))

    def each(self, function: Callable[[Seen], Result]) -> Iterator[Result]:
        """What `function` makes of each block, several at a time where there are `workers`."""
        return side_by_side(lambda i: function(self._seen(i)), range(self._x.blocks))

    def _seen(self, i: int) -> Seen:
        x, weight, lacking, dense = self._x.block(i), None, None, self._dense
        if self._residual is not None:
            residual = self._residual.block(i)
            lacking = None if residual[0] is residual[-1] else residual[0] - residual[-1]
            size = _mean_square(residual[0]) + np.float32(self._gain) * _mean_square(x[0])
            weight = np.divide(1, size, out=np.zeros_like(size), where=size > SMALLEST)
        return Seen(x, weight, lacking, None if dense is None else lambda: dense.rows(i, 0))


def _mean_square(x: np.ndarray) -> np.ndarray:
    mean: np.ndarray = np.einsum("tk,tk->t", x, x) / np.float32(x.shape[1])
    return mean


class Visitor(ABC):
    """Sees every linear in the order of computation."""

    #: Streams of values that run side by side: 1, or 2 to carry the dense model along with the compressed one.
    streams: int = 1
    #: Whether `also` is to be called, for which the dense model is run once more where linears are run more than once.
    sees_again: bool = False

    @abstractmethod
    def visit(self, stack: Stack, inputs: Inputs) -> Sequence[Sequence[np.ndarray]]:
        """Returns the weights to go on with: for each stream, one for each part of the stack."""

    def also(self, stack: Stack, inputs: Inputs) -> None:
        """Sees, before any `visit`, what the dense model's linear reads where it is run again: its weights serve there, too.
        Called only where `sees_again`."""
        raise NotImplementedError

    def bias(self, stack: Stack, bias: np.ndarray) -> Sequence[np.ndarray]:
        """The biases to go on with, float32 [N] of each stream; asked right after `visit`."""
        return [bias] * self.streams

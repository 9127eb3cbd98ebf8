"""What every checkpoint offers, whatever file it comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aerogel.bf16 import finite, widen
from aerogel.errors import DataError, MissingTensorsError, ShapeError

if TYPE_CHECKING:
    from aerogel.checkpoint.pooling import Pooling
    from aerogel.checkpoint.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class Weight:
    """A matrix w[N,K] in canonical form: float32, bf16 or int8 codes; dense, or only the nonzeros behind a bit mask.

    Attributes:
        shape: (N, K).
        values: float32, uint16 that are bf16, or int8 codes in [-127, 127]. Without a mask [N,K]; with one, a vector of
            the stored values in row-major order.
        scale: float32 [N] for int8: w[n,k] = scale[n] * code[n,k]. None for float32 and bf16.
        mask: uint8 [N, ceil(K/8)]; bit k%8 of byte k//8 says that column k is stored. None: all are.
    """

    shape: tuple[int, int]
    values: NDArray[Any]
    scale: NDArray[np.float32] | None = None
    mask: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        n, k = self.shape
        if self.values.dtype not in (np.float32, np.uint16, np.int8):
            raise ShapeError(f"weight: expected float32, uint16 (bf16) or int8 values, got {self.values.dtype}")
        if self.mask is None:
            _expect("values", self.values.shape, (n, k))
        else:
            _expect("mask", self.mask.shape, (n, -(-k // 8)))
            if self.values.ndim != 1:
                raise ShapeError(f"weight: values behind a mask: expected a vector, got {list(self.values.shape)}")
        if (self.scale is not None) != (self.values.dtype == np.int8):
            raise ShapeError(f"weight: a scale goes with int8 values and only with them, got {self.values.dtype}")
        if self.scale is not None:
            _expect("scale", self.scale.shape, (n,))

    def dense(self) -> NDArray[np.float32]:
        """The weight as float32 [N,K]. A view of the file where nothing has to be decoded: do not write to it."""
        if self.mask is None:
            values = self.values
        else:
            stored = np.unpackbits(self.mask, axis=1, count=self.shape[1], bitorder="little").view(bool)
            values = np.zeros(self.shape, self.values.dtype)
            values[stored] = self.values
        if values.dtype == np.uint16:
            return widen(values)
        if self.scale is None:
            return values
        return values.astype(np.float32) * self.scale[:, None]

    @property
    def sparsity(self) -> float:
        """The fraction of the N*K elements that are zero."""
        size = self.shape[0] * self.shape[1]
        return 1.0 - int(np.count_nonzero(self.values)) / size if size else 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of values, scale and mask together."""
        return sum(part.nbytes for part in (self.values, self.scale, self.mask) if part is not None)


class Checkpoint(ABC):
    """A model's parameters, config and tokenizer, read lazily.

    Names are Hugging Face's, relative to the base model (see `aerogel.checkpoint.names`). Arrays may be read-only
    views of the mapped file: they stay valid as long as they are referenced, and the file must not be overwritten
    in place meanwhile.
    """

    kind: ClassVar[str]

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config

    @abstractmethod
    def names(self) -> list[str]:
        """The parameters' names, sorted."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """The parameter's shape."""

    @abstractmethod
    def array(self, name: str) -> NDArray[np.float32]:
        """The parameter as float32, decoded. For norms, biases and the like; a matrix is better read by `weight`."""

    @abstractmethod
    def weight(self, name: str) -> Weight:
        """The matrix in its stored form. Raises ShapeError if it is not a matrix."""

    def release(self, name: str) -> None:  # noqa: B027  (a source that holds nothing has nothing to do)
        """Gives back the memory that reading the parameter took, where the source can read it again. Views stay valid."""

    @abstractmethod
    def _load_tokenizer(self) -> Tokenizer: ...

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self._load_tokenizer()

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, loaded at the first call."""
        return self._tokenizer

    @property
    def pooling(self) -> Pooling | None:
        """How the model's authors make one embedding of a sequence, or None where the checkpoint does not say."""
        return None

    @property
    def max_tokens(self) -> int | None:
        """Tokens per sequence, special ones included, that the model was made for, where the checkpoint says so."""
        return None

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def require(self, names: Iterable[str]) -> None:
        """Raises MissingTensorsError with all of `names` that the checkpoint does not have."""
        missing = [name for name in names if name not in self]
        if missing:
            raise MissingTensorsError(self.path, missing)

    def __repr__(self) -> str:
        return f"<{self.kind} checkpoint {str(self.path)!r}: {len(self.names())} parameters>"


def _expect(what: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if got != expected:
        raise ShapeError(f"weight: {what}: expected {list(expected)}, got {list(got)}")


def check_finite(where: str, values: NDArray[Any]) -> None:
    """Raises DataError, with the count, if `values`, floats or bf16 codes, hold NaN or infinity."""
    if values.dtype == np.uint16:
        _refuse(where, values.size - int(np.count_nonzero(finite(values))), values.size)
        return
    # A sum passes NaN and infinity on, so one pass without temporaries clears nearly every tensor; an overflow of the
    # sum itself is told apart below.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):
            return
    _refuse(where, values.size - int(np.count_nonzero(np.isfinite(values))), values.size)


def _refuse(where: str, bad: int, size: int) -> None:
    if bad:
        raise DataError(f"{where}: expected finite values, got {bad} of {size} that are NaN or infinite")


def check_matrix(where: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape as (N, K), or ShapeError."""
    if len(shape) != 2 or 0 in shape:
        raise ShapeError(f"{where}: expected a matrix [N, K], got {list(shape)}")
    return shape[0], shape[1]

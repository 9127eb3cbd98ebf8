"""One layer by itself: `Linear`, and the product of a CSR matrix with a dense one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel._core import linear as run_linear
from aerogel._core import pack as pack_weight
from aerogel._core import pack_csr
from aerogel._util.checks import array, items, shown, text, thread_count
from aerogel.checkpoint.weight import Weight
from aerogel.engine.sources import weight_source
from aerogel.errors import DataError, ShapeError
from aerogel.quantize import quantize, scheme
from aerogel.quantize.stored import to_weight
from aerogel.tuning import Forms, Tuner, dense_format, numbers_of

if TYPE_CHECKING:
    import scipy.sparse


class Linear:
    """y = x w^T + b with packed weights; immutable, so threads may share it.

    Args:
        weight: [N,K], a float array or a scipy.sparse matrix. Zeros are recognised either way.
        bias: [N], or None.
        quant: a scheme of `aerogel.quantize`: "int8" (one scale per row of the weight), "int4:g64", "codebook:16" and so on
            (activations are quantized per token inside), "int8:g64" and "bf16" (the weight alone is rounded) or "none"
            (float32).
        format: "auto" picks by measurement on this CPU, see `aerogel.load`; "dense" is the dense format for the values at
            hand; or the name of a kernel format, see `aerogel.kernels`.
        threads: worker threads; the process's cores unless given.
    """

    def __init__(
        self,
        weight: np.ndarray | scipy.sparse.spmatrix,
        bias: np.ndarray | Sequence[float] | None = None,
        quant: str = "int8",
        format: str = "auto",
        threads: int | None = None,
    ) -> None:
        scheme(quant)  # refuses an unknown one before any work
        text("format", format)
        self.threads = thread_count(threads)
        stored = _sparse_weight(weight, quant) if hasattr(weight, "tocsr") else _dense_weight(weight, quant)
        self.bias = None if bias is None else _float32("bias", bias)
        if self.bias is not None and self.bias.shape != (stored.shape[0],):
            raise ShapeError(f"bias: expected [{stored.shape[0]}], got {list(self.bias.shape)}")
        if self.bias is not None and not np.isfinite(self.bias).all():
            raise DataError("bias: holds NaN or infinite values")
        source, alive = weight_source([("weight", stored)])
        formats: Forms | str = format
        if format == "auto":
            tuner = Tuner(self.threads)
            formats = tuner.known(source) or tuner.measure(source)
        elif format == "dense":
            formats = dense_format(numbers_of(source))
        self._weight = pack_weight(source, formats)
        del alive

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K) of the weight."""
        n, k = self._weight.shape
        return n, k

    @property
    def forms(self) -> list[dict[str, Any]]:
        """The packed forms of the weight: format, isa, nbytes, and max_rows, the most rows of x that it serves (None: any
        number)."""
        return list(self._weight.forms)

    @property
    def sparsity(self) -> float:
        """Fraction of zeros in the weight as it is run."""
        return float(self._weight.sparsity)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weight."""
        return int(self._weight.nbytes)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """float32 [..., K] -> [..., N]."""
        x = _float32("x", x)
        n, k = self.shape
        if not x.ndim or x.shape[-1] != k:
            raise ShapeError(f"x: expected [..., {k}], got {list(x.shape)}")
        rows = x.reshape(-1, k)
        if not len(rows):
            return np.empty((*x.shape[:-1], n), np.float32)
        return run_linear(self._weight, rows, self.bias, self.threads).reshape(*x.shape[:-1], n)

    def __repr__(self) -> str:
        n, k = self.shape
        return (
            f"<aerogel.Linear [{n}, {k}] {' + '.join(form['format'] for form in self.forms)} on {self.forms[0]['isa']}, "
            f"{self.sparsity:.0%} zeros, {self.nbytes} bytes>"
        )


def csr_matmul(csr: Any, x: np.ndarray, threads: int | None = None) -> np.ndarray:
    """A sparse matrix times a dense one, float32: csr [N,K] @ x [K,M] -> [N,M], or x [K] -> [N].

    The matrix is checked and packed on every call: to multiply by the same one again, make a `Linear` with quant="none"
    of it, which computes x @ csr.T.

    Args:
        csr: a scipy.sparse matrix, or (indptr, indices, data): row i holds data[indptr[i]:indptr[i+1]] in the columns
            indices[indptr[i]:indptr[i+1]]. Values at the same place add up, as in scipy.
        x: [K,M] or [K]. K is its length, since the three arrays do not say how wide the matrix is.
        threads: worker threads; the process's cores unless given.
    """
    workers = thread_count(threads)
    x = _float32("x", x)
    if x.ndim not in (1, 2):
        raise ShapeError(f"x: expected [K, M] or [K], got {list(x.shape)}")
    if hasattr(csr, "tocsr"):
        csr = _scipy_csr("csr", csr)
        if csr.shape[1] != len(x):
            raise ShapeError(f"x: expected [{csr.shape[1]}, M], got {list(x.shape)}")
        csr = (csr.indptr, csr.indices, csr.data)
    indptr, indices, data = _csr_arrays(csr)
    n = len(indptr) - 1
    if n < 1 or not x.size:
        _checked_csr((indptr, indices, data), len(x))
        return np.zeros((n, *x.shape[1:]), np.float32)
    columns = x.reshape(len(x), -1)
    weight = pack_csr(len(x), indptr, indices, data)
    y = run_linear(weight, np.ascontiguousarray(columns.T), None, workers)
    return np.ascontiguousarray(y.T).reshape(n, *x.shape[1:])


def _float32(name: str, values: Any) -> np.ndarray:
    found = array(name, values, kinds="fiu")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, which is refused where it matters
        return np.ascontiguousarray(found, np.float32).reshape(found.shape)


def _dense_weight(weight: np.ndarray, quant: str) -> Weight:
    values = _float32("weight", weight)
    if values.ndim != 2 or 0 in values.shape:
        raise ShapeError(f"weight: expected [N, K], got {list(values.shape)}")
    return to_weight(quantize(quant, values))


def _sparse_weight(weight: Any, quant: str) -> Weight:
    csr = _scipy_csr("weight", weight)
    n, k = csr.shape
    if not n or not k:
        raise ShapeError(f"weight: expected [N, K], got {[n, k]}")
    indptr, indices, data = _checked_csr((csr.indptr, csr.indices, csr.data), k)
    stored = _bitmask(indptr, indices, data, k)
    if quant == "none":
        return stored
    return to_weight(quantize(quant, stored.dense()), sparse=True)


def _scipy_csr(name: str, matrix: Any) -> Any:
    """A scipy.sparse matrix by rows."""
    import scipy.sparse

    if not scipy.sparse.issparse(matrix) or len(matrix.shape) != 2:
        raise DataError(f"{name}: expected a scipy.sparse matrix, got {shown(matrix)}")
    return matrix.tocsr()


def _csr_arrays(csr: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """indptr and indices of one integer type, and float32 data; what they hold is not checked here."""
    parts = items("csr: expected a scipy.sparse matrix or three arrays", csr)
    if len(parts) != 3:
        raise DataError("csr: expected a scipy.sparse matrix or (indptr, indices, data)")
    indptr, indices, data = (array(f"csr: {name}", part) for name, part in zip(("indptr", "indices", "data"), parts))
    for name, part in (("indptr", indptr), ("indices", indices)):
        if part.ndim != 1 or (part.dtype.kind not in "iu" and part.size):
            raise DataError(f"csr: {name}: expected integers in one dimension, got {part.dtype} {list(part.shape)}")
    kind = np.int32 if indptr.dtype == indices.dtype == np.int32 else np.int64
    indptr, indices = (np.ascontiguousarray(part, kind) for part in (indptr, indices))
    data = _float32("csr: data", data)
    if data.shape != indices.shape:
        raise ShapeError(f"csr: data: expected one value per index, [{len(indices)}], got {list(data.shape)}")
    return indptr, indices, data


def _checked_csr(csr: Any, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """indptr, indices (sorted in each row, none twice) and float32 data of a matrix of k columns."""
    indptr, indices, data = _csr_arrays(csr)
    indptr, indices = indptr.astype(np.int64), indices.astype(np.int64)
    if not len(indptr) or indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        raise DataError(f"csr: indptr: expected to rise from 0 to {len(indices)}, the number of indices")
    if len(indices) and (indices.min() < 0 or indices.max() >= k):
        raise DataError(f"csr: indices: expected columns 0 to {k - 1}, got {indices.min()} to {indices.max()}")
    if not np.isfinite(data).all():
        raise DataError("csr: data: holds NaN or infinite values")
    place = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)) * k + indices
    if (np.diff(place) <= 0).any():  # unsorted, or twice in one place
        place, inverse = np.unique(place, return_inverse=True)
        data = np.bincount(inverse, weights=data, minlength=len(place)).astype(np.float32)
        indices = place % k
        indptr = np.searchsorted(place, np.arange(len(indptr)) * k)
    return indptr, indices, data


def _bitmask(indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, k: int) -> Weight:
    """A checked CSR matrix in the canonical form, explicit zeros left out."""
    n = len(indptr) - 1
    rows = np.repeat(np.arange(n), np.diff(indptr))
    there = data != 0
    rows, indices = rows[there], indices[there]
    mask = np.zeros((n, -(-k // 8)), np.uint8)
    np.bitwise_or.at(mask, (rows, indices // 8), (1 << (indices % 8)).astype(np.uint8))
    return Weight((n, k), data[there], None, mask)

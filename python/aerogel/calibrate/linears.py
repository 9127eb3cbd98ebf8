"""Products with linears on the way through a model: by BLAS, or by the engine's kernel for sparse rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from aerogel._core import WeightSource, pack, supported_isas
from aerogel._core import linear as sparse_product

#: Ops run as this CPU does them best, so that what is made of the statistics does not depend on AEROGEL_ISA; their last bits
#: depend on the CPU as those of NumPy's products do.
ISA = supported_isas()[0]
#: Matrices that are denser are multiplied by BLAS, and those that are smaller: packing costs more than zeros save.
DENSEST, SMALLEST = 0.35, 1 << 14

#: x [rows, K] -> x W^T + b [rows, N], float32.
Product: TypeAlias = Callable[[np.ndarray], np.ndarray]


def product(x: np.ndarray, parts: Sequence[np.ndarray], bias: np.ndarray | None) -> np.ndarray:
    """x [rows, K] times each part [N_i, K] transposed, side by side, and the bias: float32 [rows, N]."""
    y = np.empty((len(x), sum(len(part) for part in parts)), np.float32)
    begin = 0
    for part in parts:
        np.matmul(x, part.T, out=y[:, begin : begin + len(part)])
        begin += len(part)
    if bias is not None:
        y += bias
    return y


def multiplying(parts: Sequence[np.ndarray], bias: np.ndarray | None) -> Product:
    """The product with a linear, by BLAS or by the engine's kernel for sparse rows."""
    kept, size = sum(map(np.count_nonzero, parts)), sum(part.size for part in parts)
    if size < SMALLEST or kept > DENSEST * size:
        return lambda x: product(x, parts, bias)
    stacked = np.concatenate(parts)
    source = WeightSource(stacked.shape[1])
    source.add_dense("linear", stacked)
    packed = pack(source, "csr_f32", ISA)
    return lambda x: sparse_product(packed, x, bias)

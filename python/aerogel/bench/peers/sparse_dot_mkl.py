"""MKL's sparse BLAS (mkl_sparse_s_mm) on a CSR matrix, fp32, through sparse_dot_mkl.

It chooses its kernels for Intel CPUs; on others it runs its general ones.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import scipy.sparse

from . import Engine as Base

# The wheel `mkl` puts the library beside the interpreter, where the loader does not look.
for _library in sorted((Path(sys.prefix) / "lib").glob("libmkl_rt.*")):
    os.environ.setdefault("MKL_RT", str(_library))

import sparse_dot_mkl  # noqa: E402  (after its library is known)


class Engine(Base):
    def load(self) -> None:
        sparse_dot_mkl.mkl_set_num_threads(self.threads)
        with np.load(self.model) as arrays:
            self.weight = scipy.sparse.csr_matrix(arrays["weight"])

    def run(self, *arrays: np.ndarray) -> np.ndarray:
        y: np.ndarray = sparse_dot_mkl.dot_product_mkl(self.weight, arrays[0].T).T
        return y

    def version(self) -> str:
        return str(sparse_dot_mkl.__version__)

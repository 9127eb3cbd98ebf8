"""SciPy's CSR matrix times a dense one, fp32, one thread: the sparse product that everybody has."""

from __future__ import annotations

import numpy as np
import scipy
import scipy.sparse

from . import Engine as Base


class Engine(Base):
    def load(self) -> None:
        with np.load(self.model) as arrays:
            self.weight = scipy.sparse.csr_matrix(arrays["weight"])

    def run(self, *arrays: np.ndarray) -> np.ndarray:
        y: np.ndarray = (self.weight @ arrays[0].T).T
        return y

    def version(self) -> str:
        return str(scipy.__version__)

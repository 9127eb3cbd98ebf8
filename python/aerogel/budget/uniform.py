"""Every layer gets the same sparsity."""

from __future__ import annotations

import numpy as np

from aerogel.budget.shares import Budget, checked_share
from aerogel.calibrate.statistics import Statistics


class Uniform(Budget):
    """The same for all."""

    def _look(self, name: str, weight: np.ndarray, statistics: Statistics | None) -> None:
        pass

    def share(self, sparsity: float) -> dict[str, float]:
        return dict.fromkeys(self.sizes, checked_share(sparsity))

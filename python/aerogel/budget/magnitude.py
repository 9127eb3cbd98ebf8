"""One threshold for the magnitudes of all layers: what is smallest in the model goes (Han et al., arXiv 1506.02626)."""

from __future__ import annotations

import numpy as np

from aerogel.budget.shares import Budget
from aerogel.calibrate.statistics import Statistics
from aerogel.prune import global_sparsities, magnitude_score


class Global(Budget):
    """Layers with many small weights lose more. Keeps a copy of all magnitudes until they are shared."""

    def __init__(self) -> None:
        super().__init__()
        self._scores: dict[str, np.ndarray] = {}

    def _look(self, name: str, weight: np.ndarray, statistics: Statistics | None) -> None:
        self._scores[name] = magnitude_score(weight, None)

    def share(self, sparsity: float) -> dict[str, float]:
        return dict(zip(self._scores, global_sparsities(list(self._scores.values()), sparsity), strict=True))

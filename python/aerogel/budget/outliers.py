"""OWL: layers with more outliers among their scores keep more weights (Yin et al., arXiv 2310.05175).

    score[n,k] = |w[n,k]| * norm of input k        D[l] = share of scores above M times their mean
    sparsity[l] = S - L ... S + L, falling with D[l]

As in the paper M = 5 and L = 0.08, for layers that compete over the whole model.
"""

from __future__ import annotations

import numpy as np

from aerogel.budget.shares import Budget, checked_share, shift_to_mean
from aerogel.calibrate.statistics import Statistics
from aerogel.prune import wanda_score

OUTLIER = 5.0  # M
RANGE = 0.08  # L


class Outliers(Budget):
    """Shares by outliers."""

    needs = "gram"

    def __init__(self) -> None:
        super().__init__()
        self._shares: dict[str, float] = {}

    def _look(self, name: str, weight: np.ndarray, statistics: Statistics | None) -> None:
        score = wanda_score(weight, statistics)
        self._shares[name] = float(np.mean(score > OUTLIER * score.mean()))

    def share(self, sparsity: float) -> dict[str, float]:
        sparsity = checked_share(sparsity)
        share = np.array(list(self._shares.values()))
        width = float(np.ptp(share)) if share.size else 0.0
        place = (share - share.min()) / width if width else np.zeros(share.shape)  # 0: no outliers, 1: the most
        limit = min(RANGE, sparsity, 1 - sparsity)
        wishes = dict(zip(self._shares, (sparsity + limit * (1 - 2 * place)).tolist(), strict=True))
        return shift_to_mean(wishes, self.sizes, sparsity)

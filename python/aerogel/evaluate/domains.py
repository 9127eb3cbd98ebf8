"""Several sets at once: each domain's agreement with the dense model, and the worst of them.

A figure of the domain that a model was calibrated on flatters it; what counts is the worst domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aerogel._util.checks import instance, items
from aerogel.errors import DataError
from aerogel.evaluate.alike import SHARES_INDEX
from aerogel.evaluate.intervals import Estimate
from aerogel.evaluate.task import Score, Task

#: Figures of agreement whose least (True) or greatest (False) value is the worst.
LESS_IS_WORSE = {
    "cosine_mean": True,
    "overlap10": True,
    "same_label": True,
    "same_top": True,
    "same_top10": True,
    "rank": True,
    "kl_mean": False,
}


@dataclass(frozen=True)
class Domains:
    """Scores by the name of their set, in the order in which they were given.

    Attributes:
        scores: what `Task.evaluate` gave.
    """

    scores: dict[str, Score]

    def worst(self) -> dict[str, tuple[str, Estimate]]:
        """Of every figure of agreement with the dense model, the set where it is worst, and the figure there.

        "kept" is the main figure's part of the dense model's: for perplexity the ratio, where more is worse.
        """
        found: dict[str, tuple[str, Estimate]] = {}
        for name, score in self.scores.items():
            if score.against is None:
                continue
            figures = {key: each for key, each in score.against.agreement.items() if key in LESS_IS_WORSE}
            if score.against.dense:
                figures[f"{score.metric} / dense" if score.lower_is_better else "kept"] = score.against.kept
            for figure, estimate in figures.items():
                sign = 1 if LESS_IS_WORSE.get(figure, figure == "kept") else -1
                if figure not in found or sign * estimate.value < sign * found[figure][1].value:
                    found[figure] = (name, estimate)
        return found

    @property
    def shares_index(self) -> bool | None:
        """Whether texts embedded by both models may stand in one search index: in every set at least .9 of each text's
        ten nearest are the same. None where no set says so."""
        found = [
            overlap.value
            for score in self.scores.values()
            if score.against is not None and (overlap := score.against.agreement.get("overlap10")) is not None
        ]
        return min(found) >= SHARES_INDEX if found else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "scores": {name: score.as_dict(values=False) for name, score in self.scores.items()},
            "worst": {
                figure: {"set": name, "value": each.value, "low": each.low, "high": each.high}
                for figure, (name, each) in self.worst().items()
            },
            "shares_index": self.shares_index,
        }


def evaluate_all(model: Any, tasks: Sequence[Task[Any]], against: Any = None) -> Domains:
    """Scores a model on several sets.

    Args:
        model: what the tasks take.
        tasks: such as `[Sts("a.csv"), Alike("news.txt")]`.
        against: the dense model.

    Raises:
        DataError: there is no task, or a set is wrong for the model.
    """
    tasks = [instance("tasks", task, Task, DataError) for task in items("tasks", tasks, DataError)]
    if not tasks:
        raise DataError("tasks: expected at least one, got none")
    scores: dict[str, Score] = {}
    for task in tasks:
        scores[unique(task.set_name, scores)] = task.evaluate(model, against)
    return Domains(scores)


def unique(name: str, taken: Any) -> str:
    """The name, with a number behind it where it is taken."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name} ({number})", number + 1
    return found

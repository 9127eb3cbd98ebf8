"""Several sets as one task, whose score is the worst set's: what a sweep draws, so that no set hides another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from aerogel._util.checks import instance, items
from aerogel.errors import DataError
from aerogel.evaluate.domains import Domains, unique
from aerogel.evaluate.intervals import Estimate
from aerogel.evaluate.task import Comparison, Score, Task


class Worst(Task[tuple[Any, ...]]):
    """Sets that a model is scored on beside the dense one.

    Of each set counts what is kept of the dense model: the score over the dense one's, or of texts without labels the
    agreement (cosine, same label, rank). A perplexity's ratio grows where others fall, so such sets do not mix with others.
    """

    name = "worst of several"

    def __init__(self, tasks: Sequence[Task[Any]]) -> None:
        self.tasks = [instance("tasks", task, Task, DataError) for task in items("tasks", tasks, DataError)]
        if len(self.tasks) < 2:
            raise DataError(f"tasks: expected several, got {len(self.tasks)}")
        kinds = {task.lower_is_better for task in self.tasks}
        if len(kinds) > 1:
            raise DataError("tasks: expected texts whose perplexity counts, or other sets, got both")
        [self.lower_is_better] = kinds  # type: ignore[misc]  # of the sets, not of the class
        self.metric = "worst / dense" if self.lower_is_better else "worst kept"  # type: ignore[misc]
        super().__init__(
            {f"{i} {task.name} {name}": file for i, task in enumerate(self.tasks) for name, file in task.files.items()},
            ", ".join(task.set_name for task in self.tasks),
        )
        contexts = [found for task in self.tasks if (found := getattr(task, "context", None)) is not None]
        self.context = contexts or None

    def answer(self, model: Any) -> tuple[Any, ...]:
        return tuple(task.answer(model) for task in self.tasks)

    def score(self, answers: tuple[Any, ...], dense: tuple[Any, ...] | None = None) -> Score:
        """Figures: the worst set's, their mean, and each set's under its name. The agreement is each figure's worst."""
        if dense is None:
            raise DataError("several sets: expected the dense model's answers to compare with, got none")
        scores: dict[str, Score] = {}
        for task, own, other in zip(self.tasks, answers, dense, strict=True):
            scores[unique(task.set_name, scores)] = task.score(own, other)
        kept = {name: score.against.kept for name, score in scores.items() if score.against is not None}
        if any(math.isnan(each.value) for each in kept.values()):
            worst = next(name for name, each in kept.items() if math.isnan(each.value))
        else:
            worst = (max if self.lower_is_better else min)(kept, key=lambda name: kept[name].value)
        mean = Estimate(sum(each.value for each in kept.values()) / len(kept))
        agreement = {
            figure: each
            for figure, (_, each) in Domains(scores).worst().items()
            if figure != "kept" and not figure.endswith("/ dense")
        }
        return Score(
            self.name,
            self.metric,
            {self.metric: kept[worst], "mean": mean, **kept},
            scores[worst].values,
            self.lower_is_better,
            {"worst": worst, "sets": len(scores)},
            Comparison({}, kept[worst], agreement),
        )

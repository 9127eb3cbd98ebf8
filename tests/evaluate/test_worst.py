"""Several sets as one task."""

from pathlib import Path

import numpy as np
import pytest

from aerogel import evaluate
from aerogel.errors import DataError
from aerogel.evaluate import Comparison, Estimate, Score, Task


class Fixed(Task):
    """Its answers are what is kept."""

    name, metric = "fixed", "cosine_mean"

    def __init__(self, name, lower_is_better=False):
        super().__init__({"fixed": Path(name)})
        self.lower_is_better = lower_is_better

    def answer(self, model):
        return model[self.set_name]

    def score(self, answers, dense=None):
        kept = Estimate(answers / dense, answers / dense - 0.1, answers / dense + 0.1)
        return Score(
            "fixed",
            "cosine_mean",
            {"cosine_mean": kept},
            np.zeros(3),
            against=Comparison({}, kept, {"cosine_mean": kept}),
        )


MODEL, DENSE = {"a.txt": 0.9, "b.txt": 0.6}, {"a.txt": 1.0, "b.txt": 0.8}


def test_the_worst_set_is_the_figure():
    task = evaluate.Worst([Fixed("a.txt"), Fixed("b.txt")])
    found = task.evaluate(MODEL, DENSE)
    assert found.value == found.against.kept.value == pytest.approx(0.75) and found.facts["worst"] == "b.txt"
    assert found.figures["worst kept"].low == pytest.approx(0.65) and not found.lower_is_better
    assert {name: each.value for name, each in found.figures.items()} == pytest.approx(
        {"worst kept": 0.75, "mean": 0.825, "a.txt": 0.9, "b.txt": 0.75}
    )
    assert found.against.agreement["cosine_mean"].value == pytest.approx(0.75)
    assert list(map(str, task.files.values())) == ["a.txt", "b.txt"]


def test_of_ratios_of_perplexity_the_greatest_is_the_worst():
    found = evaluate.Worst([Fixed("a.txt", True), Fixed("b.txt", True)]).evaluate(MODEL, {"a.txt": 0.5, "b.txt": 0.6})
    assert found.lower_is_better and found.metric == "worst / dense" and found.value == pytest.approx(1.8)


def test_what_does_not_go_together():
    with pytest.raises(DataError, match="expected several, got 1"):
        evaluate.Worst([Fixed("a.txt")])
    with pytest.raises(DataError, match="got both"):
        evaluate.Worst([Fixed("a.txt"), Fixed("b.txt", True)])
    with pytest.raises(DataError, match="expected the dense model's answers"):
        evaluate.Worst([Fixed("a.txt"), Fixed("b.txt")]).evaluate(MODEL)

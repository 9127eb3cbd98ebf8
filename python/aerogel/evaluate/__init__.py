"""Accuracy: the score of a model on data, with 95 % confidence intervals, alone or compared with a dense model.

    aerogel.evaluate.sts(model, "dev.csv", against=dense).against.kept

A task is one file with a class `Task` (it reads and checks data once, and scores any number of models) and a function of
model and file. A new task is one file, a line here, and a flag of `aerogel eval`.
"""

from __future__ import annotations

from aerogel.evaluate.classify import Classify, classify
from aerogel.evaluate.intervals import Estimate, pearson, ranks, spearman
from aerogel.evaluate.retrieval import Retrieval, retrieval
from aerogel.evaluate.sts import Sts, sts
from aerogel.evaluate.task import Comparison, Score, Task
from aerogel.evaluate.text import Text, text

__all__ = [
    "Classify",
    "Comparison",
    "Estimate",
    "Retrieval",
    "Score",
    "Sts",
    "Task",
    "Text",
    "classify",
    "pearson",
    "ranks",
    "retrieval",
    "spearman",
    "sts",
    "text",
]

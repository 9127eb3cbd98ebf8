"""Accuracy: the score of a model on data, with 95 % confidence intervals, alone or compared with a dense model.

    aerogel.evaluate.sts(model, "dev.csv", against=dense).against.kept
    aerogel.evaluate.evaluate_all(model, [Sts("dev.csv"), Alike("news.txt")], dense).worst()

A task is one file with a class `Task` (it reads and checks data once, and scores any number of models) and a function of
model and file. A new task is one file, a line here, and a flag of `aerogel eval`.
"""

from __future__ import annotations

from aerogel.evaluate.alike import SHARES_INDEX, Alike, alike
from aerogel.evaluate.classify import Classify, classify
from aerogel.evaluate.domains import Domains, evaluate_all
from aerogel.evaluate.intervals import Estimate, pearson, ranks, spearman
from aerogel.evaluate.retrieval import Retrieval, retrieval
from aerogel.evaluate.sts import Sts, sts
from aerogel.evaluate.task import Comparison, Score, Task
from aerogel.evaluate.text import Text, text
from aerogel.evaluate.worst import Worst

__all__ = [
    "SHARES_INDEX",
    "Alike",
    "Classify",
    "Comparison",
    "Domains",
    "Estimate",
    "Retrieval",
    "Score",
    "Sts",
    "Task",
    "Text",
    "Worst",
    "alike",
    "classify",
    "evaluate_all",
    "pearson",
    "ranks",
    "retrieval",
    "spearman",
    "sts",
    "text",
]

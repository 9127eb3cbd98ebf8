"""Classification: how often the highest score is that of the right label."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from aerogel._util.checks import array
from aerogel.errors import DataError, UnsupportedModelError
from aerogel.evaluate.files import read_rows
from aerogel.evaluate.intervals import wilson
from aerogel.evaluate.task import Score, Task, compared, finite, method_of


class Scores(NamedTuple):
    """A model's raw scores, float [n, labels], and the right labels by its own numbering, int64 [n]."""

    rows: np.ndarray
    truth: np.ndarray


class Classify(Task[Scores]):
    """Sentences, or pairs of them, with a label each: its number, or its name in the model's config."""

    name, metric = "classify", "accuracy"

    def __init__(self, file: str | os.PathLike[str]) -> None:
        super().__init__({"classify": file})
        self.texts: list[str] = []
        self.pairs: list[str] | None = None
        self.labels: list[tuple[str, str]] = []  # (where, label)
        pairs: list[str] = []
        for where, (text, *pair, label) in read_rows(file, [2, 3], "sentence, label (or sentence, sentence, label)"):
            self.texts.append(text)
            pairs += pair
            self.labels.append((where, label.strip()))
        if not self.texts:
            raise DataError(f"{os.fspath(file)}: expected labelled sentences, got none")
        if pairs:
            self.pairs = pairs

    def answer(self, model: Any) -> Scores:
        outputs = getattr(model, "outputs", ("scores",))
        if "scores" not in outputs:
            raise UnsupportedModelError(f"{model}: is no classifier, so labels cannot be compared with its answers")
        scores = method_of(model, "scores")
        first = array("scores", scores(self.texts[:1], None if self.pairs is None else self.pairs[:1]), 2)
        labels = first.shape[1]
        if labels < 2:
            raise UnsupportedModelError(f"{model}: has one score and no labels: it ranks, it does not classify")
        truth = self._numbers(labels, getattr(model, "config", {}))  # before the work, not after it
        return Scores(finite("scores", array("scores", scores(self.texts, self.pairs), 2)), truth)

    def score(self, answers: Scores, dense: Scores | None = None) -> Score:
        truth, labels = answers.truth, answers.rows.shape[1]
        kl = np.empty(0)
        if dense is not None:
            if dense.rows.shape != answers.rows.shape:
                raise DataError(f"the dense model has {dense.rows.shape[1]} labels, this one {labels}")
            if not np.array_equal(dense.truth, truth):
                raise DataError("the two models number their labels differently: their answers cannot be compared")
            kl = _kl(dense.rows, answers.rows)

        def figures(of: Scores, chosen: np.ndarray) -> dict[str, float]:
            p, t = of.rows[chosen].argmax(axis=1), truth[chosen]
            return {"accuracy": float((p == t).mean()), "f1_macro": f1_macro(p, t, labels)}

        def agreement(a: Scores, b: Scores, chosen: np.ndarray) -> dict[str, float]:
            same = a.rows[chosen].argmax(axis=1) == b.rows[chosen].argmax(axis=1)
            return {"same_label": float(same.mean()), "kl_mean": float(kl[chosen].mean())}

        own, against = compared(len(truth), figures, self.metric, answers, dense, agreement)
        right = answers.rows.argmax(axis=1) == truth
        own["accuracy"] = wilson(int(right.sum()), len(truth))
        if against is not None and dense is not None:
            against.dense["accuracy"] = wilson(int((dense.rows.argmax(axis=1) == truth).sum()), len(truth))
        facts = {
            "file": self.files["classify"],
            "examples": len(truth),
            "pairs": self.pairs is not None,
            "labels": labels,
            "largest_class": float(np.bincount(truth).max() / len(truth)),
        }
        return Score(self.name, self.metric, own, right.astype(np.float64), False, facts, against)

    def _numbers(self, labels: int, config: Mapping[str, Any]) -> np.ndarray:
        """The rows' labels as numbers, int64 [n]."""
        names = config.get("label2id") if isinstance(config, Mapping) else None
        known = {str(k): v for k, v in names.items() if type(v) is int} if isinstance(names, Mapping) else {}
        numbers = np.empty(len(self.labels), np.int64)
        for i, (where, label) in enumerate(self.labels):
            value = known.get(label, int(label) if label.isascii() and label.isdecimal() else -1)
            if not 0 <= value < labels:
                also = f" or one of {', '.join(sorted(known))}" if known else ""
                raise DataError(f"{where}: expected a label from 0 to {labels - 1}{also}, got {label!r:.60}")
            numbers[i] = value
        return numbers


def f1_macro(predicted: np.ndarray, truth: np.ndarray, labels: int) -> float:
    """The mean of the labels' F1, over those that occur among answers or truth (as scikit-learn does)."""
    hits = np.bincount(truth[predicted == truth], minlength=labels)
    both = np.bincount(predicted, minlength=labels) + np.bincount(truth, minlength=labels)
    return float((2 * hits[both > 0] / both[both > 0]).mean())


def _kl(dense: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """KL(dense || model) of the softmax of scores [n, labels], in nats, float64 [n]."""
    p, q = (_log_softmax(np.asarray(rows, np.float64)) for rows in (dense, answers))
    divergence: np.ndarray = (np.exp(p) * (p - q)).sum(axis=1)
    return divergence


def _log_softmax(rows: np.ndarray) -> np.ndarray:
    rows = rows - rows.max(axis=1, keepdims=True)
    logs: np.ndarray = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return logs


def classify(model: Any, file: str | os.PathLike[str], against: Any = None) -> Score:
    """Accuracy and macro F1 of a sequence classifier.

    Args:
        model: a classifier, or anything with `scores(texts, pairs) -> float [n, labels]` (and `config["label2id"]`).
        file: rows `sentence<TAB>label` or `sentence<TAB>sentence<TAB>label`, tsv or csv, with or without a header. A label
            is its number, or its name in the model's `label2id`.
        against: a dense model to compare with: its own figures, the part of its accuracy that is kept, the share of equal
            labels, and the mean KL(dense || model) in nats.

    Returns:
        A Score with figures "accuracy" (Wilson interval) and "f1_macro" (bootstrap); its values are 1 for right.

    Raises:
        DataError: a row is wrong (said with file and line).
        UnsupportedModelError: the model has no classifier, or only one score.
    """
    return Classify(file).evaluate(model, against)

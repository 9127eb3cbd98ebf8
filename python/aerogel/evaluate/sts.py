"""Sentence similarity: does the cosine of two embeddings order pairs as people do (Spearman), and how linearly (Pearson)?

The protocol of the STS Benchmark (Cer et al. 2017, arXiv 1708.00055) as sentence-transformers reports it.
"""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import numpy as np

from aerogel.errors import DataError
from aerogel.evaluate.files import read_rows
from aerogel.evaluate.intervals import Estimate, bootstrap, pearson, ranks
from aerogel.evaluate.neighbours import overlap
from aerogel.evaluate.task import Score, Task, compared, cosines, embeddings

#: Quantiles of the cosines between two models' embeddings that a comparison shows.
QUANTILES = (0.01, 0.1, 0.5)
#: Nearest sentences of each whose overlap it shows.
NEIGHBOURS = 10


class Embeddings(NamedTuple):
    """Of both sides of the pairs, float32 [n, hidden] each, and their cosines float64 [n]."""

    left: np.ndarray
    right: np.ndarray
    cosine: np.ndarray


class Sts(Task[Embeddings]):
    """Pairs of sentences with scores of their similarity, on any scale."""

    name, metric = "sts", "spearman"

    def __init__(self, file: str | os.PathLike[str]) -> None:
        super().__init__({"sts": file})
        self.left: list[str] = []
        self.right: list[str] = []
        scores: list[float] = []
        for where, (left, right, score) in read_rows(file, [3], "sentence, sentence, score"):
            try:
                value = float(score)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise DataError(f"{where}: expected a score, which is a number, got {score!r:.60}")
            self.left.append(left)
            self.right.append(right)
            scores.append(value)
        if len(scores) < 2:
            raise DataError(f"{os.fspath(file)}: expected at least 2 pairs of sentences, got {len(scores)}")
        self.scores = np.array(scores)
        if (self.scores == self.scores[0]).all():
            raise DataError(f"{os.fspath(file)}: expected scores that differ, all {len(scores)} are {scores[0]:g}")

    def answer(self, model: Any) -> Embeddings:
        both = embeddings(model, [*self.left, *self.right])
        left, right = both[: len(self.left)], both[len(self.left) :]
        return Embeddings(left, right, cosines(left, right))

    def score(self, answers: Embeddings, dense: Embeddings | None = None) -> Score:
        alike = None
        if dense is not None:
            if answers.left.shape == dense.left.shape:
                alike = (cosines(answers.left, dense.left) + cosines(answers.right, dense.right)) / 2

        def figures(of: Embeddings, chosen: np.ndarray) -> dict[str, float]:
            cosine, scores = of.cosine[chosen], self.scores[chosen]
            return {"spearman": pearson(ranks(cosine), ranks(scores)), "pearson": pearson(cosine, scores)}

        def agreement(_: Embeddings, __: Embeddings, chosen: np.ndarray) -> dict[str, float]:
            return {} if alike is None else {"cosine_mean": float(alike[chosen].mean())}

        own, against = compared(len(self.scores), figures, self.metric, answers, dense, agreement)
        if against is not None and alike is not None and dense is not None:
            every = np.concatenate([cosines(answers.left, dense.left), cosines(answers.right, dense.right)])
            if (common := self._overlap(answers, dense)) is not None:
                against.agreement["overlap10"] = common
            for q in QUANTILES:
                against.agreement[f"cosine_q{round(100 * q):02d}"] = Estimate(float(np.quantile(every, q)))
            against.agreement["cosine_min"] = Estimate(float(every.min()))
        facts = {"file": self.files["sts"], "pairs": len(self.scores)}
        return Score(self.name, self.metric, own, answers.cosine, False, facts, against)

    def _overlap(self, answers: Embeddings, dense: Embeddings) -> Estimate | None:
        """Of the ten nearest among all sentences, how many both models find; None of too few sentences."""
        texts = [*self.left, *self.right]
        first = sorted({text: i for i, text in reversed(list(enumerate(texts)))}.values())  # each sentence once
        if len(first) <= NEIGHBOURS:
            return None
        own, other = (np.concatenate([of.left, of.right])[first] for of in (answers, dense))
        common = overlap(own, other, NEIGHBOURS)
        return bootstrap(len(common), lambda chosen: {"overlap": float(common[chosen].mean())})["overlap"]


def sts(model: Any, file: str | os.PathLike[str], against: Any = None) -> Score:
    """Spearman and Pearson correlation of embedding cosines with people's scores.

    Args:
        model: an embedding model, or anything with `encode(texts) -> float [n, hidden]`.
        file: rows `sentence,sentence,score`, csv or tsv (see `read_rows`), with or without a header.
        against: a dense model to compare with: its own figures, the part of its Spearman that is kept, and the cosines
            between the two models' embeddings (mean, 1 %, 10 % and 50 % quantiles, least), and the overlap of each
            sentence's ten nearest.

    Returns:
        A Score with figures "spearman" and "pearson"; its values are the cosines, float64 [n].

    Raises:
        DataError: a row is wrong (said with file and line), or there is nothing to correlate.
        UnsupportedModelError: the model has no pooling.
    """
    return Sts(file).evaluate(model, against)

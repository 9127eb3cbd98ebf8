"""How alike a compressed model's answers are to the dense one's on texts that nobody labelled.

Of an embedding model: the cosines between both models' embeddings, and the overlap of each text's ten nearest neighbours,
which says whether both can share a search index. Of a classifier: how often both find the same label; of a reranker,
whether both put pairs in the same order. A language model's answers are compared by `text`: KL, and the share of equal
most likely tokens.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from aerogel._util.checks import array, whole_number
from aerogel._util.checks import texts as check_texts
from aerogel.calibrate.pieces import short
from aerogel.calibrate.texts import read_texts
from aerogel.errors import DataError, UnsupportedModelError
from aerogel.evaluate.intervals import Estimate, bootstrap, spearman
from aerogel.evaluate.neighbours import overlap
from aerogel.evaluate.task import Comparison, Score, Task, cosines, embeddings, finite, method_of

#: Texts of a file that are compared, evenly spread over it; and neighbours of each.
LIMIT, NEIGHBOURS = 2000, 10
#: Words of a text; longer ones are cut.
WORDS = 64
#: From this overlap of neighbours on both models may share an index.
SHARES_INDEX = 0.9


class Answers(NamedTuple):
    """Embeddings float [n, width], or scores float [n, labels]."""

    kind: str
    rows: np.ndarray


class Alike(Task[Answers]):
    """Texts to embed or to score."""

    name, metric = "alike", "cosine_mean"

    def __init__(self, file: str | os.PathLike[str], limit: int = LIMIT) -> None:
        super().__init__({"alike": file})
        self._take(read_texts(self.files["alike"]), limit)

    @classmethod
    def of(cls, texts: Sequence[str], set_name: str, limit: int = LIMIT) -> Alike:
        """Of texts that are no file; `set_name` is what tables call them."""
        found = cls.__new__(cls)
        Task.__init__(found, {}, set_name)
        found._take(check_texts("texts", texts), limit)
        return found

    def _take(self, texts: Sequence[str], limit: int) -> None:
        limit = whole_number("limit", limit, NEIGHBOURS + 1, error=DataError)
        distinct = short_texts(texts)
        if len(distinct) > limit:
            distinct = [distinct[i] for i in np.linspace(0, len(distinct) - 1, limit).astype(int)]
        if len(distinct) <= NEIGHBOURS:
            raise DataError(f"{self.set_name}: expected more than {NEIGHBOURS} different texts, got {len(distinct)}")
        self.texts = distinct

    def evaluate(self, model: Any, against: Any = None) -> Score:
        if against is None:
            raise DataError("alike: expected a dense model to compare with, got none")
        return super().evaluate(model, against)

    def answer(self, model: Any) -> Answers:
        outputs = getattr(model, "outputs", ("embedding",))
        if "embedding" in outputs:
            return Answers("embeddings", embeddings(model, self.texts))
        if "scores" in outputs:
            scores = method_of(model, "scores")
            rows = array("scores", scores(self.texts), 2)
            if rows.shape[1] == 1:  # it scores pairs: each text with the one after it
                rows = array("scores", scores(self.texts, [*self.texts[1:], self.texts[0]]), 2)
            return Answers("scores", finite("scores", rows))
        raise UnsupportedModelError(
            f"{model}: has neither embeddings nor scores to compare; for a language model use `text`"
        )

    def score(self, answers: Answers, dense: Answers | None = None) -> Score:
        if dense is None:
            raise DataError("alike: expected the dense model's answers to compare with, got none")
        if answers.kind != dense.kind:
            raise DataError(f"the dense model gives {dense.kind}, this one {answers.kind}")
        if answers.rows.shape != dense.rows.shape:
            raise DataError(
                f"the dense model gives {dense.rows.shape[1]} values a text, this one {answers.rows.shape[1]}"
            )
        if answers.kind == "scores":
            return self._ranked(answers, dense) if answers.rows.shape[1] == 1 else self._labels(answers, dense)
        cosine, common = cosines(answers.rows, dense.rows), overlap(answers.rows, dense.rows, NEIGHBOURS)

        def figures(chosen: np.ndarray) -> dict[str, float]:
            return {"cosine_mean": float(cosine[chosen].mean()), "overlap10": float(common[chosen].mean())}

        found = bootstrap(len(cosine), figures)
        found["cosine_q10"], found["cosine_min"] = (
            Estimate(float(np.quantile(cosine, 0.1))),
            Estimate(float(cosine.min())),
        )
        return self._scored("cosine_mean", found, cosine)

    def _labels(self, answers: Answers, dense: Answers) -> Score:
        same = (answers.rows.argmax(axis=1) == dense.rows.argmax(axis=1)).astype(np.float64)
        return self._scored(
            "same_label", bootstrap(len(same), lambda chosen: {"same_label": float(same[chosen].mean())}), same
        )

    def _ranked(self, answers: Answers, dense: Answers) -> Score:
        own, other = answers.rows[:, 0], dense.rows[:, 0]
        found = bootstrap(len(own), lambda chosen: {"rank": spearman(own[chosen], other[chosen])})
        return self._scored("rank", found, own.astype(np.float64))

    def _scored(self, metric: str, found: dict[str, Estimate], values: np.ndarray) -> Score:
        against = Comparison({}, found[metric], {name: each for name, each in found.items()})
        return Score(
            self.name, metric, found, values, False, {"file": self.set_name, "texts": len(self.texts)}, against
        )


def short_texts(texts: Iterable[str]) -> list[str]:
    """Each text once, since it would be its own neighbour, and long ones in pieces of at most WORDS words: a book without
    line ends is many texts."""
    return list(dict.fromkeys(short(texts, WORDS)))


def alike(model: Any, file: str | os.PathLike[str], against: Any) -> Score:
    """How alike two models' answers to the same texts are: one domain's check of a compressed model.

    Args:
        model: the compressed model: one with embeddings or scores, or anything with `encode(texts)`.
        file: texts, as `aerogel compress --calibrate` reads them, long ones in pieces of at most 64 words; 2,000 of them,
            evenly spread, where there are more.
        against: the dense model.

    Returns:
        A Score with "cosine_mean", "cosine_q10", "cosine_min" and "overlap10" (of each text's ten nearest among these
        texts, the share that both models find); of a classifier "same_label"; of a model with one score "rank", the rank
        correlation of pairs of each text with the next. Its values are the cosines, 1 for the same label, or the scores.

    Raises:
        DataError: the file cannot be read or has no more than ten different texts, or the models do not fit together.
        UnsupportedModelError: the model has neither embeddings nor scores.
    """
    return Alike(file).evaluate(model, against)

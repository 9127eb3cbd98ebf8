"""What every task shares: the score, the comparison with a dense model, and the shape of a task."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from aerogel._util.checks import array, shown
from aerogel._util.checks import path as as_path
from aerogel.errors import DataError
from aerogel.evaluate.intervals import Estimate, bootstrap

Answers = TypeVar("Answers")

#: Figures of agreement for people.
AGREEMENT = {
    "cosine_mean": "cosine to dense, mean",
    "cosine_min": "cosine to dense, least",
    "cosine_q01": "cosine to dense, 1 % quantile",
    "cosine_q10": "cosine to dense, 10 % quantile",
    "cosine_q50": "cosine to dense, median",
    "same_label": "same label as dense",
    "same_top": "same most likely token as dense",
    "same_top10": "of dense's first 10 documents",
    "overlap10": "of dense's ten nearest texts",
    "rank": "rank correlation with dense's scores",
    "kl_mean": "KL(dense || model), nats",
}


@dataclass(frozen=True)
class Comparison:
    """How a model stands against a dense one on the same examples.

    Attributes:
        dense: the dense model's own figures.
        kept: the model's main figure over the dense one's, with a paired interval: both see the same resamples, so the
            interval is much narrower than those of the two figures. Of a perplexity it is above 1 where the model is worse.
        agreement: how alike the answers themselves are, whatever the data say: cosines of embeddings, equal labels, KL.
    """

    dense: dict[str, Estimate]
    kept: Estimate
    agreement: dict[str, Estimate]


@dataclass(frozen=True)
class Score:
    """What a model scored on a task.

    Attributes:
        task: "sts", "classify", "text", "retrieval" or "alike".
        metric: the main one of `figures`.
        figures: by name, each with its 95 % interval.
        values: float64 [n], one value an example: a cosine, 1 or 0 for a right or wrong label, the mean negative
            log-likelihood of a window, nDCG of a query.
        lower_is_better: of the main figure.
        facts: how it was measured.
        against: beside a dense model, if one was given.
    """

    task: str
    metric: str
    figures: dict[str, Estimate]
    values: np.ndarray = field(repr=False)
    lower_is_better: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    against: Comparison | None = None

    @property
    def value(self) -> float:
        """The main figure."""
        return self.figures[self.metric].value

    def as_dict(self, values: bool = True) -> dict[str, Any]:
        """Plain values for JSON; figures that are not defined (NaN) are None. `values`: with one value an example."""
        found = asdict(self)
        if not values:
            del found["values"]
        plain: dict[str, Any] = _plain(found)
        return plain


class Task(ABC, Generic[Answers]):
    """Data that models are scored on. It is read and checked once, and scores any number of models.

    Attributes:
        name: of the task.
        metric: its main figure.
        lower_is_better: of that.
        files: that the data come from, by what they are.
        set_name: what tables call the data.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    lower_is_better: ClassVar[bool] = False

    def __init__(self, files: Mapping[str, str | os.PathLike[str]], set_name: str | None = None) -> None:
        self.files = {key: as_path(key, file, DataError) for key, file in files.items()}
        self.set_name = set_name or next(iter(self.files.values())).name

    def evaluate(self, model: Any, against: Any = None) -> Score:
        """Scores `model`; with `against`, a dense model, also beside it."""
        return self.score(self.answer(model), None if against is None else self.answer(against))

    @abstractmethod
    def answer(self, model: Any) -> Answers:
        """All that scoring needs of a model: one's answers may be scored against another's later."""

    @abstractmethod
    def score(self, answers: Answers, dense: Answers | None = None) -> Score:
        """The figures of some answers, and how they compare with a dense model's."""


def compared(
    examples: int,
    figures: Any,
    metric: str,
    answers: Answers,
    dense: Answers | None,
    agreement: Any = None,
) -> tuple[dict[str, Estimate], Comparison | None]:
    """Bootstraps figures(answers, indices) -> {name: float} of a model and, paired, of the dense one.

    `agreement(answers, dense, indices)` gives the comparison's own figures.
    """
    if dense is None:
        return bootstrap(examples, lambda chosen: figures(answers, chosen)), None

    def both(chosen: np.ndarray) -> dict[str, float]:
        own, other = figures(answers, chosen), figures(dense, chosen)
        found = {f"own {name}": value for name, value in own.items()}
        found |= {f"dense {name}": value for name, value in other.items()}
        found["kept"] = own[metric] / other[metric] if other[metric] else math.nan
        if agreement is not None:
            found |= {f"agreement {name}": value for name, value in agreement(answers, dense, chosen).items()}
        return found

    every = bootstrap(examples, both)

    def part(prefix: str) -> dict[str, Estimate]:
        return {name[len(prefix) :]: value for name, value in every.items() if name.startswith(prefix)}

    return part("own "), Comparison(part("dense "), every["kept"], part("agreement "))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row, float64 [n], of two [n, width]; 0 where a row is all zeros."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: np.ndarray = np.einsum("ij,ij->i", a, b) / np.where(norms > 0, norms, 1)
    return found


def embeddings(model: Any, texts: list[str]) -> np.ndarray:
    """What a model's `encode` makes of texts, float [n, hidden]; raises DataError if it has none or gives something else."""
    found = array("embeddings", method_of(model, "encode")(texts), 2)
    if len(found) != len(texts):
        raise DataError(f"embeddings: expected {len(texts)}, one for each text, got {len(found)}")
    return finite("embeddings", found)


def method_of(model: Any, name: str) -> Any:
    """A method of a model; raises DataError if it has none of that name."""
    found = getattr(model, name, None)
    if not callable(found) or isinstance(model, (type, str, bytes)):  # texts have an encode() too
        raise DataError(f"model: expected one with {name}(), got {shown(model)}")
    return found


def finite(what: str, values: np.ndarray) -> np.ndarray:
    """The values, unless one of them is no number: such a model's score would mean nothing."""
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if len(bad):
        raise DataError(
            f"{what}: expected finite numbers, got NaN or infinity for {len(bad)} of {len(values)} examples, first {bad[0]}"
        )
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return str(value) if isinstance(value, Path) else value

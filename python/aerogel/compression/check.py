"""The check that ends a compression: how alike the new model's answers are to the source's on texts that it never saw.

The texts are those that calibration keeps aside (`aerogel.calibrate.aside`): of the user's files, and of every domain of the
general mix, which is another domain than the calibration's where the mix was not calibrated on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.calibrate import GENERAL, SELF
from aerogel.calibrate.general import general_documents, general_texts
from aerogel.compression.recipe import Calibration
from aerogel.compression.texts import shares, texts_of
from aerogel.engine.model import load
from aerogel.errors import AerogelError
from aerogel.evaluate import SHARES_INDEX, Alike, Estimate, Score, Text
from aerogel.evaluate.alike import NEIGHBOURS, short_texts
from aerogel.evaluate.domains import LESS_IS_WORSE
from aerogel.evaluate.intervals import bootstrap
from aerogel.evaluate.neighbours import overlap
from aerogel.evaluate.task import cosines

log = logging.getLogger("aerogel")

#: Texts of a domain; tokens, and about as many characters, of a language model's window, one a domain.
TEXTS, WINDOW, CHARACTERS = 60, 256, 2000
#: A domain that is worse than the best one that was calibrated on by more than this is warned of.
APART = {"cosine_mean": 0.05, "same_label": 0.05, "rank": 0.05, "perplexity / dense": 0.1}


@dataclass(frozen=True)
class Domain:
    """One domain's agreement with the dense model.

    Attributes:
        name: of the domain of the general mix, or a file's name.
        seen: whether other texts of it were calibrated on.
        texts: how many were compared; of a language model, tokens.
        figures: "cosine_mean" and "overlap10" of embeddings, "same_label" or "rank" of scores, "perplexity / dense",
            "kl_mean" and "same_top" of a language model.
    """

    name: str
    seen: bool
    texts: int
    figures: dict[str, Estimate]


@dataclass(frozen=True)
class Check:
    """How a compressed model stands beside its source, domain by domain.

    Attributes:
        main: the figure that the domains are ordered by.
        domains: the worst first.
        shares_index: whether both models' embeddings may stand in one search index; None for other models.
    """

    main: str
    domains: list[Domain]
    shares_index: bool | None = None

    @property
    def worst(self) -> Domain:
        """The domain where the two models agree least."""
        return self.domains[0]

    @property
    def warnings(self) -> list[str]:
        """What should be known: domains that are clearly worse than what was calibrated on."""
        seen = [domain.figures[self.main].value for domain in self.domains if domain.seen]
        if not seen:
            return []
        best, sign = (max(seen), 1) if _less_is_worse(self.main) else (min(seen), -1)
        far = [d for d in self.domains if not d.seen and sign * (best - d.figures[self.main].value) > APART[self.main]]
        if not far:
            return []
        names = ", ".join(f"{domain.name} {domain.figures[self.main].value:.3f}" for domain in far[:4])
        return [
            f"{self.main}: {best:.3f} on texts like those that it was calibrated on, but {names}: texts of those kinds in "
            "the calibration would help, or --mix"
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "warnings": self.warnings}


class Checker:
    """Compares compressed models with their source; the source's answers are made once.

    Args:
        source: the dense model.
        calibration: what the models are calibrated on.
        threads: of the models; the process's cores unless given.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        calibration: Calibration,
        threads: int | None = None,
        rerank: str | None = None,
    ) -> None:
        self._dense = load(source, threads=threads, rerank=rerank)
        self._threads = threads
        self._running = "logits" in self._dense.outputs
        self._sets, self._seen = _kept_aside(calibration, self._running)
        self._answers: Any = None

    def check(self, model: str | os.PathLike[str]) -> Check:
        """Compares a packed model.

        Raises:
            UnsupportedModelError: it gives neither embeddings nor scores nor next tokens.
        """
        packed = load(model, threads=self._threads)
        if self._running:
            scores = {
                name: self._window(name, texts).evaluate(packed, self._dense) for name, texts in self._sets.items()
            }
            return self._ordered("perplexity / dense", [self._told(name, score) for name, score in scores.items()])
        return self._compared(packed)

    def value(self, model: str | os.PathLike[str]) -> float:
        """The worst domain's main figure; the source's own is 1."""
        found = self.check(model)
        return found.worst.figures[found.main].value

    @property
    def lower_is_better(self) -> bool:
        """Of `value`."""
        return self._running

    def _window(self, name: str, texts: Sequence[str]) -> Text:
        whole = "\n".join(texts)[:CHARACTERS]
        return Text.of(whole, name, min(WINDOW, self._dense.max_tokens))

    def _told(self, name: str, score: Score) -> Domain:
        assert score.against is not None
        figures = {"perplexity / dense": score.against.kept, **score.against.agreement}
        return Domain(name, self._seen[name], int(score.facts["tokens"]), figures)

    def _compared(self, packed: Any) -> Check:
        """All texts go through the model at once, so that neighbours are looked for among texts of all kinds."""
        names = [name for name, texts in self._sets.items() for _ in texts]
        task = Alike.of([text for texts in self._sets.values() for text in texts], "texts kept aside", limit=len(names))
        if self._answers is None:
            self._answers = task.answer(self._dense)
        dense, own = self._answers, task.answer(packed)
        whole = task.score(own, dense)  # the two models fit together
        if whole.metric == "cosine_mean":
            each = {
                "cosine_mean": cosines(own.rows, dense.rows),
                "overlap10": overlap(own.rows, dense.rows, NEIGHBOURS),
            }
        else:
            each = {whole.metric: whole.values}
        domains = []
        for name in self._sets:
            rows = np.array([at for at, of in enumerate(names) if of == name])
            if whole.metric == "rank":
                part = task.score(own._replace(rows=own.rows[rows]), dense._replace(rows=dense.rows[rows])).figures
            else:
                part = bootstrap(len(rows), _means({key: values[rows] for key, values in each.items()}))
            domains.append(Domain(name, self._seen[name], len(rows), part))
        return self._ordered(whole.metric, domains)

    def _ordered(self, main: str, domains: list[Domain]) -> Check:
        sign = 1 if _less_is_worse(main) else -1
        ordered = sorted(domains, key=lambda domain: sign * domain.figures[main].value)
        common = [domain.figures["overlap10"].value for domain in domains if "overlap10" in domain.figures]
        return Check(main, ordered, min(common) >= SHARES_INDEX if common else None)


def check(
    source: str | os.PathLike[str],
    model: str | os.PathLike[str],
    calibration: Calibration | Mapping[str, Any] | None = None,
    threads: int | None = None,
    rerank: str | None = None,
) -> Check | None:
    """How alike a compressed model's answers are to the source's on texts that it was not calibrated on.

    Args:
        source: the dense model.
        model: the packed one.
        calibration: what it was calibrated on, as in its recipe; nothing unless given.
        threads: of both models.
        rerank: as `aerogel.load`.

    Returns:
        A Check; None, with a line in the log, if such a model cannot be compared: it has no tokenizer, or gives neither
        embeddings nor scores nor next tokens.
    """
    said = calibration if isinstance(calibration, Calibration) else Calibration(**(calibration or {}))
    try:
        return Checker(source, said, threads, rerank).check(model)
    except AerogelError as error:
        log.info("not checked on other texts: %s", error)
        return None


def _less_is_worse(figure: str) -> bool:
    """All but the ratio of perplexities are shares of what the dense model has."""
    return LESS_IS_WORSE.get(figure, False)


def _means(each: Mapping[str, np.ndarray]) -> Any:
    return lambda chosen: {name: float(values[chosen].mean()) for name, values in each.items()}


def _kept_aside(calibration: Calibration, running: bool) -> tuple[dict[str, list[str]], dict[str, bool]]:
    """Texts of every domain by its name, each text once, and whether the domain was calibrated on."""
    parts = shares(calibration)
    found: dict[str, list[str]] = {}
    seen: dict[str, bool] = {}
    known: set[str] = set()

    def take(name: str, texts: Sequence[str], fitted: bool) -> None:
        if not running:
            texts = [text for text in short_texts(texts) if text not in known]
            texts = [texts[i] for i in np.linspace(0, len(texts) - 1, min(TEXTS, len(texts))).astype(int)]
            known.update(texts)
        if len(texts) > (0 if running else NEIGHBOURS):
            found[name], seen[name] = list(texts), fitted

    for file in calibration.files:
        if file not in (GENERAL, SELF):
            take(Path(file).name, texts_of(file, calibration, running)[1], True)
    domains = general_documents(aside=True) if running else general_texts(aside=True)
    for name, texts in domains.items():
        take(name, texts, GENERAL in parts)
    return found, seen

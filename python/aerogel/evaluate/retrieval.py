"""Retrieval: are the documents that answer a query among its nearest by cosine, and how far up?

Files in the layout of BEIR (Thakur et al. 2021, arXiv 2104.08663), measures as trec_eval defines them:

    nDCG@10    sum over places r of rel / log2(r + 1), over the same sum of the best order
    recall@k   relevant documents among the first k, over all relevant ones
    MRR@10     1 / place of the first relevant document; 0 if it is not among the first 10
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from aerogel.errors import DataError
from aerogel.evaluate.files import read_jsonl, read_rows
from aerogel.evaluate.task import Score, Task, compared, cosines, embeddings

#: Places of the list that nDCG and MRR look at; those of recall.
TOP, RECALLS = 10, (10, 100)
#: Documents that are embedded at once: no embedding of the corpus is ever whole in memory.
CHUNK = 1024


class Ranking(NamedTuple):
    """What a model found.

    Attributes:
        found: int64 [queries, depth], places in the corpus, nearest first; -1 where the corpus is smaller.
        queries: float32 [queries, hidden], for comparing two models.
    """

    found: np.ndarray
    queries: np.ndarray


class Retrieval(Task[Ranking]):
    """A corpus, queries, and which documents answer which query, how well."""

    name, metric = "retrieval", f"ndcg@{TOP}"

    def __init__(
        self, corpus: str | os.PathLike[str], queries: str | os.PathLike[str], qrels: str | os.PathLike[str]
    ) -> None:
        super().__init__({"corpus": corpus, "queries": queries, "qrels": qrels})
        ids, self.documents = _texts(corpus)
        known, texts = _texts(queries)
        gains: dict[int, dict[int, float]] = {}
        for where, (query, document, gain) in _qrels(qrels):
            if query not in known:
                raise DataError(f"{where}: expected a query of {os.fspath(queries)}, got {query!r:.60}")
            if document not in ids:
                raise DataError(f"{where}: expected a document of {os.fspath(corpus)}, got {document!r:.60}")
            if gain > 0:
                gains.setdefault(known[query], {})[ids[document]] = gain
        if not gains:
            raise DataError(f"{os.fspath(qrels)}: expected relevant documents for some query, got none")
        chosen = sorted(gains)
        names = list(known)
        self.queries = [texts[q] for q in chosen]
        self.gains = [gains[q] for q in chosen]
        #: The document that a query is, where both have one id: it does not count as found.
        self.itself = np.array([ids.get(names[q], -1) for q in chosen])

    def answer(self, model: Any) -> Ranking:
        queries = _unit(embeddings(model, self.queries))
        depth = max(TOP, *RECALLS)
        best = np.full((len(queries), 0), -np.inf, np.float32)
        found = np.full((len(queries), 0), -1)
        for begin in range(0, len(self.documents), CHUNK):
            chunk = _unit(embeddings(model, self.documents[begin : begin + CHUNK]))
            scores = queries @ chunk.T
            places = np.broadcast_to(np.arange(begin, begin + len(chunk)), scores.shape)
            scores = np.where(places == self.itself[:, None], -np.inf, scores)
            best, found = np.hstack([best, scores]), np.hstack([found, places])
            order = np.argsort(-best, axis=1, kind="stable")[:, :depth]  # among equals the first of the corpus
            best, found = np.take_along_axis(best, order, 1), np.take_along_axis(found, order, 1)
        return Ranking(np.where(np.isfinite(best), found, -1), queries)

    def score(self, answers: Ranking, dense: Ranking | None = None) -> Score:
        own = self._measures(answers)
        other = None if dense is None else self._measures(dense)
        alike: dict[str, np.ndarray] = {}
        if dense is not None:
            pairs = zip(answers.found[:, :TOP], dense.found[:, :TOP])
            alike[f"same_top{TOP}"] = np.array([len({*a} & {*b} - {-1}) / max(1, len({*b} - {-1})) for a, b in pairs])
            if answers.queries.shape == dense.queries.shape:
                alike["cosine_mean"] = cosines(answers.queries, dense.queries)

        def figures(of: dict[str, np.ndarray], chosen: np.ndarray) -> dict[str, float]:
            return {name: float(values[chosen].mean()) for name, values in of.items()}

        found, against = compared(
            len(self.queries), figures, self.metric, own, other, lambda _, __, chosen: figures(alike, chosen)
        )
        facts = {**self.files, "queries": len(self.queries), "documents": len(self.documents)}
        return Score(self.name, self.metric, found, own[self.metric], False, facts, against)

    def _measures(self, ranking: Ranking) -> dict[str, np.ndarray]:
        """Each measure of each query, float64 [queries]."""
        names = [f"ndcg@{TOP}", *(f"recall@{k}" for k in RECALLS), f"mrr@{TOP}"]
        table = np.zeros((len(names), len(self.queries)))
        discounts = 1 / np.log2(np.arange(2, TOP + 2))
        for i, (found, gains) in enumerate(zip(ranking.found, self.gains)):
            got = np.array([gains.get(int(place), 0.0) for place in found])
            ideal = np.sort(list(gains.values()))[::-1][:TOP]
            table[0, i] = got[:TOP] @ discounts[: len(got[:TOP])] / (ideal @ discounts[: len(ideal)])
            for row, k in enumerate(RECALLS, 1):
                table[row, i] = np.count_nonzero(got[:k]) / len(gains)
            first = np.flatnonzero(got[:TOP])
            table[-1, i] = 1 / (1 + first[0]) if len(first) else 0.0
        return dict(zip(names, table))


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(norms > 0, norms, 1)).astype(np.float32)


def _texts(file: str | os.PathLike[str]) -> tuple[dict[str, int], list[str]]:
    """(place of each id, texts): .jsonl with _id, text and perhaps title, else rows id, text or id, title, text."""
    places: dict[str, int] = {}
    texts: list[str] = []
    for where, key, text in _entries(file):
        if key in places:
            raise DataError(f"{where}: expected an id of its own, {key!r:.60} was there already")
        places[key] = len(texts)
        texts.append(text)
    if not texts:
        raise DataError(f"{os.fspath(file)}: expected texts with ids, got none")
    return places, texts


def _entries(file: str | os.PathLike[str]) -> Iterator[tuple[str, str, str]]:
    if os.fspath(file).lower().endswith((".jsonl", ".ndjson")):
        for where, entry in read_jsonl(file):
            key = entry.get("_id")
            key = str(key) if type(key) is int else key
            text, title = entry.get("text"), entry.get("title") or ""
            if not (isinstance(key, str) and isinstance(text, str) and isinstance(title, str)):
                raise DataError(f"{where}: expected _id, text and perhaps title, which are strings, got {entry!r:.80}")
            yield where, key, f"{title} {text}".strip()
        return
    for where, (key, *parts) in read_rows(file, [2, 3], "id, text (or id, title, text)", header=False):
        yield where, key, " ".join(parts).strip()


def _qrels(file: str | os.PathLike[str]) -> Iterator[tuple[str, tuple[str, str, float]]]:
    """Rows query, document, relevance; or trec_eval's query, iteration, document, relevance."""
    for where, fields in read_rows(file, [3, 4], "query id, document id, relevance"):
        try:
            gain = float(fields[-1])
        except ValueError:
            gain = float("nan")
        if not np.isfinite(gain):
            raise DataError(f"{where}: expected a relevance, which is a number, got {fields[-1]!r:.60}")
        yield where, (fields[0], fields[-2], gain)


def retrieval(
    model: Any,
    corpus: str | os.PathLike[str],
    queries: str | os.PathLike[str],
    qrels: str | os.PathLike[str],
    against: Any = None,
) -> Score:
    """nDCG@10, recall@10, recall@100 and MRR@10 of exact search by cosine.

    Queries without a relevant document are left out. A document with the id of the query does not count as found (in some
    sets the queries are documents too). A relevance of 0 or less is not relevant.

    Args:
        model: an embedding model, or anything with `encode(texts) -> float [n, hidden]`.
        corpus: JSON lines {"_id", "title", "text"} (.jsonl), or tsv rows id, text or id, title, text. A title is put
            before its text.
        queries: the same.
        qrels: tsv rows query id, document id, relevance, with or without a header.
        against: a dense model to compare with: its own figures, the part of its nDCG@10 that is kept, the share of its
            first 10 documents that are found, and the mean cosine between the two models' queries.

    Returns:
        A Score; its values are the queries' nDCG@10, in the order of the file of queries.

    Raises:
        DataError: a row is wrong, an id is unknown or there twice (said with file and line), or nothing is relevant.
        UnsupportedModelError: the model has no pooling.
    """
    return Retrieval(corpus, queries, qrels).evaluate(model, against)

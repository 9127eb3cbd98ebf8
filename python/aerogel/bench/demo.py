"""The demo: compress a sentence embedding model, search with it, and compare it with its dense forms."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aerogel._util.progress import Progress
from aerogel.bench import Variant, dense_variants, sentences
from aerogel.calibrate import GENERAL
from aerogel.compression import Check, compress
from aerogel.engine.model import Model, load
from aerogel.errors import UnsupportedModelError

#: Of the model that the demo shows beside the dense forms, and the tokens of the general mix that it is calibrated on:
#: fewer than `aerogel compress` takes, so that nobody waits for long.
SPARSITY, TOKENS = 0.7, 16384
QUERIES = (
    "How do I bake a loaf?",
    "planets and their moons",
    "My computer program has a bug.",
    "How can I stay healthy?",
    "The football team won.",
    "saving for a house",
)


@dataclass(frozen=True)
class Hit:
    """A sentence found for a query."""

    topic: str
    sentence: str
    cosine: float


def prepare(
    source: str | os.PathLike[str], work: Path, threads: int | None, progress: Progress
) -> tuple[list[Variant], Check | None]:
    """Writes the dense and the sparse forms of the model under `work`, and compares the sparse one with its source on texts
    that it was not calibrated on."""
    variants = dense_variants(source, work, threads)
    path = work / "sparse-int8"
    recipe = {"calibration": {"files": [GENERAL], "total": TOKENS}}
    done = compress(source, path, sparsity=SPARSITY, recipe=recipe, threads=threads, progress=progress, check=True)
    return [*variants, Variant(f"sparse int8, {SPARSITY:.0%}", str(path))], done.check


def search(model: Model, queries: Sequence[str], top: int = 3) -> list[list[Hit]]:
    """The package's sentences nearest to each query by cosine, best first."""
    if "embedding" not in model.outputs:
        raise UnsupportedModelError(f"{model}: the demo needs an embedding model")
    corpus = [(topic, line) for topic, lines in sentences().items() for line in lines]
    cosines = model.encode(queries, normalize=True) @ model.encode([line for _, line in corpus], normalize=True).T
    return [
        [Hit(corpus[i][0], corpus[i][1], float(row[i])) for i in np.argsort(-row, kind="stable")[:top]]
        for row in cosines
    ]


def searches(variants: Sequence[Variant], threads: int | None) -> dict[str, list[list[Hit]]]:
    """The nearest sentences to each of QUERIES, by variant."""
    return {v.name: search(load(v.path, threads, v.format), QUERIES) for v in variants}


def agreement(found: list[list[Hit]], dense: list[list[Hit]]) -> tuple[int, int, int]:
    """(queries whose first sentence is the dense model's, sentences that both found, sentences that the dense one found)."""
    first = sum(a[0].sentence == b[0].sentence for a, b in zip(found, dense, strict=True))
    pairs = zip(found, dense, strict=True)
    both = sum(len({hit.sentence for hit in a} & {hit.sentence for hit in b}) for a, b in pairs)
    return first, both, sum(map(len, dense))

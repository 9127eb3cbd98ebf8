"""The demo: compress a sentence embedding model, search with it, and compare it with its dense forms."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aerogel._util.progress import Progress
from aerogel.bench import Variant, dense_variants, sentences
from aerogel.compression import compress
from aerogel.engine.model import Model, load
from aerogel.errors import UnsupportedModelError

#: Sparsities that the demo shows beside the dense forms.
SPARSITIES = (0.8, 0.9)
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


def prepare(source: str | os.PathLike[str], work: Path, threads: int | None, progress: Progress) -> list[Variant]:
    """Writes the dense and the sparse forms of the model under `work`."""
    variants = dense_variants(source, work, threads)
    for sparsity in SPARSITIES:
        path = work / f"sparse-int8-{round(100 * sparsity)}"
        compress(source, path, sparsity=sparsity, method="magnitude", threads=threads, progress=progress)
        variants.append(Variant(f"sparse int8, {sparsity:.0%}", str(path)))
    return variants


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

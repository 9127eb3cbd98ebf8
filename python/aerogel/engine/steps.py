"""What each step of a forward pass takes, of models that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np

from aerogel.engine.model import Model

#: Passes go on for about so long, but for no fewer rounds than the minimum.
SECONDS, MIN_ROUNDS, MAX_ROUNDS = 3.0, 5, 200


def step_times(models: Sequence[Model], batch: int, tokens: int) -> list[list[tuple[str, str, float]]]:
    """(op, name, median seconds) of every step, for each model; the models take turns.

    Args:
        models: of one vocabulary.
        batch: sequences of a pass.
        tokens: tokens of each.
    """
    random = np.random.default_rng(0)
    ids = random.integers(0, models[0].vocab_size, batch * tokens).astype(np.int32)
    offsets = np.arange(batch + 1, dtype=np.int64) * tokens
    output = "embedding" if "embedding" in models[0].outputs else models[0].outputs[0]
    samples: list[list[list[float]]] = [[] for _ in models]
    names: list[list[tuple[str, str]]] = [[] for _ in models]
    begin = time.perf_counter()
    for turn in range(-1, MAX_ROUNDS):
        if turn >= MIN_ROUNDS and time.perf_counter() - begin > SECONDS:
            break
        for i, model in enumerate(models):
            timings = model.profile(ids, offsets, output)
            names[i] = [(row["op"], row["name"]) for row in timings]
            if turn >= 0:
                samples[i].append([row["seconds"] for row in timings])
    return [
        [
            (op, name, statistics.median(column))
            for (op, name), column in zip(named, zip(*rows, strict=True), strict=True)
        ]
        for named, rows in zip(names, samples, strict=True)
    ]

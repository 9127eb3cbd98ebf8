"""How fast a packed encoder is on the machine at hand, in less than a second: a line of its card."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import numpy as np

from aerogel._core import cpu_name
from aerogel._core import isa as active_isa
from aerogel._util.units import milliseconds
from aerogel.engine.model import Model, load
from aerogel.errors import AerogelError

log = logging.getLogger("aerogel")

#: Tokens of the text that is timed; seconds that timing takes, calls at least; bytes of files that are not loaded for it.
TOKENS, SECONDS, CALLS, BYTES = 128, 0.1, 5, 100_000_000
#: For models that are not timed here.
MEASURE = "`aerogel bench path/to/this/folder` measures it on your machine, beside its dense forms."


def speed(folder: str | os.PathLike[str], threads: int | None = None) -> str:
    """A sentence with the time of one text beside that of the same weights in dense form, measured in turns, the least of
    each; or, for a language model and a large one, how it is measured."""
    if sum(file.stat().st_size for file in Path(folder).glob("*.safetensors")) > BYTES:
        return MEASURE
    try:
        model = load(folder, threads)
        if "logits" in model.outputs:
            return MEASURE
        best = _least([model, load(folder, threads, format="dense")])
    except AerogelError as error:
        log.info("not timed: %s", error)
        return MEASURE
    tokens = _text(model)[0].size
    return (
        f"One text of {tokens} tokens on {cpu_name() or 'this CPU'} ({active_isa()}, {model.threads} threads): "
        f"{milliseconds(1e3 * best[0])} ms, with the same weights in dense form {milliseconds(1e3 * best[1])} ms. {MEASURE}"
    )


def _text(model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Token ids, the same each time, and their offsets."""
    count = min(TOKENS, model.max_tokens)
    ids = np.random.default_rng(0).integers(0, model.vocab_size, count, dtype=np.int32)
    return ids, np.array([0, count], np.int32)


def _least(models: list[Model]) -> list[float]:
    """Seconds of the fastest call of each model."""
    text = _text(models[0])
    found = [float("inf")] * len(models)
    started, calls = time.perf_counter(), 0
    while calls < CALLS or time.perf_counter() - started < SECONDS:
        for i, model in enumerate(models):
            begin = time.perf_counter()
            model.forward(*text)
            found[i] = min(found[i], time.perf_counter() - begin)
        calls += 1
    return found

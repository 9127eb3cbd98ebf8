"""Why a model is as fast as it is: layer by layer, what runs, what was expected, and what would be faster."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from aerogel._core import cpu_name
from aerogel._core import isa as active_isa
from aerogel._util.checks import function, whole_number
from aerogel._util.progress import Progress
from aerogel.engine.kinds import kind_of
from aerogel.engine.model import Model, load
from aerogel.errors import AerogelError
from aerogel.explanation.advice import advice
from aerogel.explanation.reports import Explanation, LayerReport
from aerogel.tuning import WORTH_MEASURING, Curve, curve, estimated, serving

#: The forward pass is profiled for about so long, but for no fewer rounds than the minimum.
SECONDS, MIN_ROUNDS, MAX_ROUNDS = 3.0, 5, 200


def explain(
    folder: str | os.PathLike[str],
    batch: int = 1,
    tokens: int = 128,
    threads: int | None = None,
    memory: float | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Profiles a model beside its own dense form and says where the time goes.

    Args:
        folder: a packed model, or any supported checkpoint.
        batch: sequences of a forward pass.
        tokens: tokens of each; 1 shows a step of decoding.
        threads: worker threads; the process's cores unless given.
        memory: see `aerogel.load`.
        progress: called as progress(done, total, what).
    """
    batch = whole_number("batch", batch, 1)
    tokens = whole_number("tokens", tokens, 1)
    function("progress", progress)
    model = load(folder, threads, memory=memory)
    dense = load(folder, threads, "dense")
    if tokens > model.max_positions:
        raise AerogelError(f"the model has only {model.max_positions} positions, too few for {tokens} tokens")
    steps, dense_steps = _profile([model, dense], batch, tokens)
    dense_ms = {name: ms for op, name, ms in dense_steps if op == "linear"}
    facts = {step["name"]: step for step in model.describe() if "forms" in step}
    curves = _curves(facts, model, batch * tokens, progress)

    layers: list[LayerReport] = []
    rest: dict[str, float] = {}
    for op, name, ms in steps:
        if op != "linear":
            rest[op] = rest.get(op, 0.0) + ms
            continue
        fact = facts[name]
        layers.append(_layer(fact, model, batch * tokens, ms, dense_ms[name], curves[_shape_key(fact)]))
    total, dense_total = (sum(ms for _, _, ms in each) for each in (steps, dense_steps))
    return Explanation(
        cpu=cpu_name(),
        isa=active_isa(),
        threads=model.threads,
        batch=batch,
        tokens=tokens,
        layers=layers,
        rest_ms=rest,
        attention=model.attention,
        total_ms=total,
        dense_total_ms=dense_total,
        advice=advice(layers, rest, total, {k: c for k, c in curves.items() if c is not None}),
    )


def _profile(models: Sequence[Model], batch: int, tokens: int) -> list[list[tuple[str, str, float]]]:
    """(op, name, median milliseconds) of every step, for each model; the models take turns."""
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
                samples[i].append([1000 * row["seconds"] for row in timings])
    return [
        [
            (op, name, statistics.median(column))
            for (op, name), column in zip(named, zip(*rows, strict=True), strict=True)
        ]
        for named, rows in zip(names, samples, strict=True)
    ]


def _shape_key(fact: dict[str, Any]) -> tuple[str, int, int]:
    return (fact["numbers"], *fact["shape"])


def _curves(
    facts: dict[str, dict[str, Any]], model: Model, rows: int, progress: Progress | None
) -> dict[tuple[str, int, int], Curve | None]:
    """One for each shape; None where this CPU has no sparse kernel for such numbers."""
    keys = list(dict.fromkeys(_shape_key(fact) for fact in facts.values()))
    terms = {_shape_key(fact): fact["terms"] for fact in facts.values()}
    found: dict[tuple[str, int, int], Curve | None] = {}
    for done, (numbers, n, k) in enumerate(keys):
        if progress is not None:
            progress(done, len(keys), f"{numbers} {n}x{k}")
        key = (numbers, n, k)
        found[key] = curve(numbers, n, k, rows * terms[key], model.threads, model.streamed)
    if progress is not None:
        progress(len(keys), len(keys), "")
    return found


def _layer(
    fact: dict[str, Any], model: Model, rows: int, ms: float, dense_ms: float, found: Curve | None
) -> LayerReport:
    n, k = fact["shape"]
    sparsity = 1 - fact["nonzeros"] / (n * k)
    rows *= fact["terms"]
    layer = kind_of(model, fact)
    forms = [(form["format"], form["max_rows"]) for form in fact["forms"]]
    numbers = fact["numbers"]
    times = estimated(layer)
    if times is not None:
        predicted: float | None = times.of(forms, rows)
    else:
        predicted = None if found is None or sparsity >= WORTH_MEASURING else found.dense[0]
    return LayerReport(
        name=fact["name"],
        shape=(n, k),
        sparsity=sparsity,
        pattern=layer.pattern,
        numbers=numbers,
        forms=fact["forms"],
        format=serving(forms, rows),
        nbytes=fact["nbytes"],
        measured_ms=ms,
        dense_ms=dense_ms,
        predicted_ms=None if predicted is None else 1000 * predicted,
        wins_from=None if found is None else found.wins_from,
        limit=fact["limit"],
    )

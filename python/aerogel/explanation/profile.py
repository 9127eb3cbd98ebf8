"""Why a model is as fast as it is: layer by layer, what runs, what was expected, and what would be faster."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aerogel._core import cpu_name
from aerogel._core import isa as active_isa
from aerogel._util.progress import Progress
from aerogel.engine.model import Model, load
from aerogel.errors import AerogelError
from aerogel.tuning import WORTH_MEASURING, Curve, curve, layer_named, remembered, serving

#: The forward pass is profiled for about so long, but for no fewer rounds than the minimum.
SECONDS, MIN_ROUNDS, MAX_ROUNDS = 3.0, 5, 200
#: Advice is given for what takes at least this part of the time.
WORTH_SAYING = 0.03


@dataclass(frozen=True)
class LayerReport:
    """One linear layer. Times are milliseconds of a forward pass.

    Attributes:
        name: of the layer.
        shape: (N, K).
        sparsity: fraction of zeros, counted.
        pattern: how the zeros lie: "unstructured", "Q:64", "2:4", "4:8", "1x4", "empty"; "dense" if they are few.
        numbers: "int8", "bf16" or "float32".
        forms: the packed forms: format, isa, nbytes, max_rows.
        format: of the form that ran.
        nbytes: bytes of all forms.
        measured_ms: in the forward pass.
        dense_ms: the same layer in the dense format, in turn with it.
        predicted_ms: what the layer's kernel took by itself when it was measured; None if it is dense for sure.
        wins_from: the sparsity from which a sparse format is faster than dense, on this CPU, at this shape and number of
            rows, for random patterns; None if it never is.
        limit: what bounds the int8 codes of the input (static scales); 0: each token's own largest value does.
    """

    name: str
    shape: tuple[int, int]
    sparsity: float
    pattern: str
    numbers: str
    forms: list[dict[str, Any]]
    format: str
    nbytes: int
    measured_ms: float
    dense_ms: float
    predicted_ms: float | None
    wins_from: float | None
    limit: float = 0.0


@dataclass(frozen=True)
class Explanation:
    """What `explain` found. Times are milliseconds, medians over interleaved forward passes of both models."""

    cpu: str
    isa: str
    threads: int
    batch: int
    tokens: int
    layers: list[LayerReport]
    rest_ms: dict[str, float]  # by op: everything that is not a linear layer
    total_ms: float
    dense_total_ms: float
    advice: list[str]

    @property
    def linear_ms(self) -> float:
        """All linear layers together."""
        return sum(layer.measured_ms for layer in self.layers)


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
    if batch < 1 or tokens < 1:
        raise AerogelError(f"expected at least one sequence of one token, got {batch} of {tokens}")
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
        total_ms=total,
        dense_total_ms=dense_total,
        advice=_advice(layers, rest, total, {k: c for k, c in curves.items() if c is not None}),
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
    forms = [(form["format"], form["max_rows"]) for form in fact["forms"]]
    facts = model.packed_weight(fact["name"]).pattern() if sparsity >= WORTH_MEASURING else None
    numbers = fact["numbers"]
    layer = layer_named(numbers, n, k, sparsity, facts, model.threads, model.streamed)
    times = remembered(layer)
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


def _advice(
    layers: Sequence[LayerReport],
    rest: dict[str, float],
    total: float,
    curves: dict[tuple[str, int, int], Curve],
) -> list[str]:
    """What would make the model faster, the largest gain first; the last lines say what nothing here can change."""
    gains: list[tuple[float, str]] = []

    def gain(ms: float, text: str) -> None:
        if ms >= WORTH_SAYING * total:
            gains.append((ms, f"{text} (about {ms:.2f} of {total:.2f} ms)"))

    floats = [layer for layer in layers if layer.numbers == "float32"]
    if floats:
        share = sum(layer.measured_ms for layer in floats) / total
        gains.append(
            (total, f"{_names(floats)}: float32 weights, {share:.0%} of the time: compress with --quant int8 first")
        )
    too_few = [layer for layer in layers if layer.wins_from and WORTH_MEASURING / 5 <= layer.sparsity < layer.wins_from]
    for shape in dict.fromkeys((layer.numbers, *layer.shape) for layer in too_few):
        group = [layer for layer in too_few if (layer.numbers, *layer.shape) == shape]
        wins = group[0].wins_from
        assert wins is not None
        saved = sum(layer.dense_ms for layer in group) * (1 - 1 / curves[shape].gain(min(0.95, wins + 0.2)))
        gain(
            saved,
            f"{_names(group)}: {_mean_sparsity(group):.0%} zeros are too few: at this shape sparse wins from {wins:.0%}; "
            f"prune to {min(0.95, wins + 0.2):.0%}, or leave the zeros out of it",
        )
    dense = [
        layer for layer in layers if layer.sparsity < WORTH_MEASURING / 5 and (layer.numbers, *layer.shape) in curves
    ]
    for shape in dict.fromkeys((layer.numbers, *layer.shape) for layer in dense):
        group = [layer for layer in dense if (layer.numbers, *layer.shape) == shape]
        factor = curves[shape].gain(0.8)
        if factor > 1:
            saved = sum(layer.measured_ms for layer in group) * (1 - 1 / factor)
            gain(saved, f"{_names(group)}: dense: pruned to 80 % this shape is {factor:.1f}x faster here")
    sparse = [layer for layer in layers if layer.wins_from and layer.wins_from <= layer.sparsity < 0.88]
    for shape in dict.fromkeys((layer.numbers, *layer.shape) for layer in sparse):
        group = [layer for layer in sparse if (layer.numbers, *layer.shape) == shape]
        factor = curves[shape].gain(0.9) / curves[shape].gain(_mean_sparsity(group))
        if factor > 1:
            saved = sum(layer.measured_ms for layer in group) * (1 - 1 / factor)
            gain(saved, f"{_names(group)}: {_mean_sparsity(group):.0%} zeros: 90 % would be {factor:.1f}x faster here")
    late = [layer for layer in layers if layer.predicted_ms and layer.measured_ms > 1.5 * layer.predicted_ms]
    for layer in late:
        gain(
            layer.measured_ms - (layer.predicted_ms or 0),
            f"{layer.name}: takes {layer.measured_ms / (layer.predicted_ms or 1):.1f}x what its kernel takes alone: other "
            "programs on this machine, or weights that the caches do not hold",
        )
    advice = [text for _, text in sorted(gains, key=lambda pair: -pair[0])]
    linear = sum(layer.measured_ms for layer in layers)
    largest = sorted(rest.items(), key=lambda pair: -pair[1])[:3]
    named = ", ".join(f"{op} {ms / total:.0%}" for op, ms in largest)
    advice.append(
        f"linear layers take {linear / total:.0%} of the time; the rest ({named}) does not depend on the weights: "
        f"pruning can gain at most {total / max(total - linear, 1e-9):.1f}x from here"
    )
    return advice


def _mean_sparsity(layers: Sequence[LayerReport]) -> float:
    return statistics.mean(layer.sparsity for layer in layers)


def _names(layers: Sequence[LayerReport]) -> str:
    """The name of one layer; of several, their common kind and number."""
    if len(layers) == 1:
        return layers[0].name
    kinds = list(dict.fromkeys(layer.name.split(".", 2)[-1] for layer in layers))
    return f"{', '.join(kinds)} ({len(layers)} layers)"

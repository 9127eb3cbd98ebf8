"""Why a model is as fast as it is: layer by layer, what runs, what was expected, and what would be faster."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aerogel._core import cpu_name
from aerogel._core import isa as active_isa
from aerogel._util.checks import function, whole_number
from aerogel._util.progress import Progress
from aerogel.architectures import architecture_of
from aerogel.checkpoint import open_checkpoint
from aerogel.engine.kinds import kind_of, prunable
from aerogel.engine.model import Model, load
from aerogel.engine.steps import step_times
from aerogel.errors import AerogelError
from aerogel.explanation.advice import SHARED, SHARED_AT, advice
from aerogel.explanation.reports import Explanation, LayerReport, WhatIf
from aerogel.explanation.whatif import Base, Scenario, scenarios
from aerogel.explanation.whatif import what_if as what_if_of
from aerogel.tuning import WORTH_MEASURING, Curve, candidates, curves_of, estimated, serving


def explain(
    folder: str | os.PathLike[str],
    batch: int = 1,
    tokens: int = 128,
    threads: int | None = None,
    memory: float | None = None,
    progress: Progress | None = None,
    what_if: Sequence[str | Mapping[str, Any]] | None = None,
) -> Explanation:
    """Profiles a model beside its own dense form and says where the time goes.

    Args:
        folder: a packed model, or any supported checkpoint.
        batch: sequences of a forward pass.
        tokens: tokens of each; 1 shows a step of decoding.
        threads: worker threads; the process's cores unless given.
        memory: see `aerogel.load`.
        progress: called as progress(done, total, what).
        what_if: scenarios whose speed is to be predicted before anybody prunes: "sparsity=0.8,pattern=4x1", or the same as
            keys and values; `quant` is int8 or int4:g64. Each is seen against the dense form, in int8 where the model has
            floats.

    Raises:
        RecipeError: a scenario is none; it says what was expected.
        AerogelError: the model is broken or not supported, or has too few positions.
    """
    batch = whole_number("batch", batch, 1)
    tokens = whole_number("tokens", tokens, 1)
    function("progress", progress)
    asked = scenarios(what_if)
    rows = batch * tokens
    model = load(folder, threads, memory=memory)
    if tokens > model.max_positions:
        raise AerogelError(f"the model has only {model.max_positions} positions, too few for {tokens} tokens")
    dense = load(folder, threads, "dense")
    base = _int8_form(folder, threads, dense) if asked else dense
    profiled = step_times([model, dense] if base is dense else [model, dense, base], batch, tokens)
    steps, dense_steps = ([(op, name, 1e3 * taken) for op, name, taken in times] for times in profiled[:2])
    dense_ms = {name: ms for op, name, ms in dense_steps if op == "linear"}
    facts = {step["name"]: step for step in model.describe() if "forms" in step}
    curves = curves_of(facts.values(), rows, model.threads, model.streamed, progress=progress)
    shared = _shared(facts.values(), rows, model, progress)
    layers = [
        _layer(facts[name], model, rows, ms, dense_ms[name], curves[name]) for op, name, ms in steps if op == "linear"
    ]
    rest = _rest(steps)
    total, dense_total = (sum(ms for _, _, ms in each) for each in (steps, dense_steps))
    said = advice(layers, rest, total, _by_shape(facts, curves), _by_shape(facts, shared))
    predicted = _predicted(folder, base, profiled[-1], rows, asked, progress)
    return Explanation(
        cpu_name(),
        active_isa(),
        model.threads,
        batch,
        tokens,
        layers,
        rest,
        model.attention,
        total,
        dense_total,
        said,
        predicted,
    )


def _rest(steps: Iterable[tuple[str, str, float]]) -> dict[str, float]:
    """Milliseconds by op of all that is not a linear."""
    rest: dict[str, float] = {}
    for op, _, ms in steps:
        if op != "linear":
            rest[op] = rest.get(op, 0.0) + ms
    return rest


def _shape_key(fact: Mapping[str, Any]) -> tuple[str, int, int]:
    return (fact["numbers"], *fact["shape"])


def _shared(
    facts: Iterable[Mapping[str, Any]], tokens: int, model: Model, progress: Progress | None
) -> dict[str, Curve | None]:
    """Curves in the pattern of shared masks, of the linears whose numbers have kernels for that."""
    steps = [fact for fact in facts if "rows_q8" in candidates(fact["numbers"])]
    return curves_of(steps, tokens, model.threads, model.streamed, SHARED, sparsities=SHARED_AT, progress=progress)


def _by_shape(
    facts: Mapping[str, Mapping[str, Any]], curves: Mapping[str, Curve | None]
) -> dict[tuple[str, int, int], Curve]:
    return {_shape_key(facts[name]): found for name, found in curves.items() if found is not None}


def _int8_form(folder: str | os.PathLike[str], threads: int | None, dense: Model) -> Model:
    """The dense form that scenarios are seen against: the model's own, in int8 where its weights are floats."""
    if open_checkpoint(folder).kind == "packed":
        return dense
    return load(folder, threads, "dense", quant="int8")


def _predicted(
    folder: str | os.PathLike[str],
    base: Model,
    times: Sequence[tuple[str, str, float]],
    rows: int,
    asked: Sequence[Scenario],
    progress: Progress | None,
) -> list[WhatIf]:
    """What each scenario would bring over the form `base`, whose steps take `times` (seconds)."""
    if not asked:
        return []
    linears = prunable(base.describe(), architecture_of(open_checkpoint(folder)))
    form = Base(linears, times, rows, base.threads, base.streamed)
    return [what_if_of(form, each, progress) for each in asked]


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

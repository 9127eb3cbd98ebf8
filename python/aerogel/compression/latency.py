"""Compression to a latency, and what a model's latency is."""

from __future__ import annotations

import dataclasses
import logging
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from aerogel._core import isa as active_isa
from aerogel._util.progress import Progress
from aerogel._util.units import milliseconds
from aerogel.architectures import architecture_of
from aerogel.checkpoint import Checkpoint, open_checkpoint
from aerogel.compression.pipeline import pack
from aerogel.compression.recipe import Calibration, Prune, Recipe
from aerogel.compression.report import CompressReport
from aerogel.compression.search import ATTEMPTS, HIGHEST, SLACK, at_sparsity, least
from aerogel.engine.kinds import prunable
from aerogel.engine.model import load
from aerogel.engine.steps import step_times
from aerogel.errors import RecipeError
from aerogel.quantize import scheme
from aerogel.tuning import Forecast, forecast

log = logging.getLogger("aerogel")


def pack_to_latency(
    checkpoint: Checkpoint,
    out: Path,
    recipe: Recipe,
    seconds: float,
    tokens: int,
    threads: int | None,
    progress: Progress | None,
) -> CompressReport:
    """The least sparse model that runs one sequence of `tokens` tokens in at most `seconds` on this machine.

    What the linears take with zeros in the recipe's pattern comes from the times of their kernels (see
    `aerogel.tuning.forecast`); what they and the rest take now is measured on the dense model in the recipe's numbers. The
    model that is packed is then run, and packed again with more sparsity should it be slower than predicted.

    Raises:
        RecipeError: not even a sparsity of 0.98 is fast enough; the message says what is reachable.
    """
    whole, rest, found = _dense_form(checkpoint, recipe, tokens, threads)
    numbers = scheme(recipe.quantize.weights).name

    def predicted(sparsity: float) -> float:
        return rest + sum(found.seconds(sparsity).values())

    if predicted(HIGHEST) > seconds:
        raise RecipeError(
            f"target latency: {_ms(seconds)} is out of reach: {_ms(predicted(HIGHEST))} at {HIGHEST:.0%} "
            f"sparsity, of which {_ms(rest)} are not linears (dense {numbers}: {_ms(whole)})"
        )
    goal = seconds
    for _ in range(ATTEMPTS):
        sparsity = least(lambda s: predicted(s) <= goal, lambda s: predicted(s) >= (1 - SLACK) * goal)  # noqa: B023
        report = pack(
            checkpoint, out, at_sparsity(recipe, sparsity), threads=threads, progress=progress, overwrite=True
        )
        measured = latency(out, tokens, threads)
        if measured <= seconds:
            note = (
                f"1x{tokens} tokens: {_ms(measured)} measured, {_ms(predicted(sparsity))} predicted, "
                f"{_ms(whole)} dense {numbers}"
            )
            return dataclasses.replace(report, notes=[*report.notes, note])
        log.info("%.1f%% sparse it takes %s: again", 100 * sparsity, _ms(measured))
        goal = max(predicted(HIGHEST), goal * seconds / measured * (1 - SLACK))
    raise RecipeError(f"target latency: expected at most {_ms(seconds)}, measured {_ms(measured)}")


def _dense_form(
    checkpoint: Checkpoint, recipe: Recipe, tokens: int, threads: int | None
) -> tuple[float, float, Forecast]:
    """Seconds of a pass of the model without new zeros, those of them that are not of linears that pruning changes, and what
    zeros in the recipe's pattern would make of these.

    Raises:
        RecipeError: no sparse kernel serves these numbers here.
    """
    quantize = dataclasses.replace(recipe.quantize, rounding="nearest", activations="dynamic")
    dense = dataclasses.replace(
        recipe, prune=Prune(sparsity=0.0), fold=None, quantize=quantize, calibration=Calibration()
    )
    with tempfile.TemporaryDirectory(prefix="aerogel-latency-") as folder:
        path = Path(folder) / "m"
        pack(checkpoint, path, dense, threads=threads)
        with load(path, threads, "dense") as model:
            count = min(tokens, model.max_tokens)
            times = step_times([model], 1, count)[0]
            whole = latency(path, tokens, threads)
            slower = whole / sum(seconds for _, _, seconds in times)  # than steps undisturbed, where other programs run
            linears = {name: slower * seconds for op, name, seconds in times if op == "linear"}
            steps = [
                s for s in prunable(model.describe(), architecture_of(open_checkpoint(path))) if s["name"] in linears
            ]
            found = forecast(steps, linears, count, model.threads, model.streamed, recipe.prune.pattern)
    if any(course is None for course in found.curves.values()):
        raise RecipeError(
            f"target latency: no sparse kernel serves {active_isa()}, so sparsity does not change the speed"
        )
    return whole, whole - sum(found.dense.values()), found


def latency(path: Path, tokens: int, threads: int | None, seconds: float = 1.0) -> float:
    """The median time of a forward pass of one sequence of `tokens` tokens; calls go on for about `seconds`."""
    model = load(path, threads)
    count = min(tokens, model.max_tokens)
    vocabulary = int(model.config["vocab_size"])
    ids = np.random.default_rng(0).integers(0, vocabulary, count).tolist()
    output = "embedding" if "embedding" in model.outputs else model.outputs[0]
    model.forward(ids, output=output)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        model.forward(ids, output=output, last_only=output == "logits")
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _ms(seconds: float) -> str:
    return f"{milliseconds(1e3 * seconds)} ms"

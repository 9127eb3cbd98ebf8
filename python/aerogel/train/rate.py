"""A learning rate by trial: a few short runs from the same start, on the same batches; the best loss at their ends wins.

It is the range test of Smith (arXiv 1506.01186) cut down to four rates, each tried by itself, so that one that diverges
spoils no other. What is best for a short run is a guess at what is best for a long one.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable

import torch

from aerogel.errors import DataError
from aerogel.train.batches import Stream
from aerogel.train.options import Options
from aerogel.train.updates import Updates

log = logging.getLogger("aerogel")

#: What is tried, from the lowest on.
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
#: Steps of a trial: this part of the run, but so many at least and at most.
PART, LEAST, MOST = 0.0125, 4, 50


def trial_steps(steps: int | None, minutes: float | None, step_seconds: float) -> int:
    """Steps of each of the four trials: all of them take 5 % of a run of the usual length, and 200 steps of a long one."""
    wanted = [float(MOST)]
    if steps is not None:
        wanted.append(PART * steps)
    if minutes is not None:
        wanted.append(PART * 60 * minutes / max(step_seconds, 1e-9))
    return max(LEAST, min(MOST, math.ceil(min(wanted))))


def trial_rate(rate: float, step: int, steps: int) -> float:
    """The rate at a step of a trial: it warms up over the first quarter and stays."""
    return rate * min(1.0, (step + 1) / max(1, steps // 4))


def find_rate(updates: Updates, stream: Stream, options: Options, report: Callable[[str], None] | None = None) -> float:
    """Tries the rates from where the student is, on the batches that come next, and leaves all as it was.

    Raises:
        DataError: the loss of all of them is not finite.
    """
    start = [parameter.detach().clone() for parameter in updates.trained]
    position = stream.position

    def train(rate: float, steps: int) -> list[float]:
        """The losses of a trial; they end with the first that is not finite."""
        torch.manual_seed(options.seed)
        losses: list[float] = []
        while len(losses) < steps and (not losses or math.isfinite(losses[-1])):
            batches = [next(stream) for _ in range(options.accumulate)]
            losses.append(sum(updates.update(batches, trial_rate(rate, len(losses), steps), None).values()))
        with torch.no_grad():
            for parameter, values in zip(updates.trained, start, strict=True):
                parameter.copy_(values)
        updates.optimizer.state.clear()
        stream.position = position
        return losses

    seconds = 0.0
    if options.minutes is not None:
        train(RATES[0], 1)  # the first step of all is slower than others
        begun = time.monotonic()
        train(RATES[0], 1)
        seconds = time.monotonic() - begun
    steps = trial_steps(options.steps, options.minutes, seconds)
    found = {rate: end_of(train(rate, steps)) for rate in RATES}
    rate = min(found, key=lambda each: found[each])
    if not math.isfinite(found[rate]):
        raise DataError(f"lr: auto: the loss is not finite at any of {', '.join(f'{each:g}' for each in RATES)}")
    torch.manual_seed(options.seed)
    line = ", ".join(f"{each:g}: {loss:.4f}" for each, loss in found.items())
    log.info("learning rate %g (%s)", rate, line)
    if report is not None:
        report(f"learning rate {rate:g}: the lowest loss after {steps} steps ({line})")
    return rate


def end_of(losses: list[float]) -> float:
    """The mean of the last quarter; infinity where it diverged."""
    return statistics.fmean(losses[-max(1, len(losses) // 4) :]) if math.isfinite(losses[-1]) else math.inf

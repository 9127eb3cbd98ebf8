"""The loop that distillation and fine-tuning share: prune in stages, train with the masks locked, resume."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aerogel._core import default_threads
from aerogel.architectures import Role
from aerogel.errors import DataError, RecipeError
from aerogel.prune import Unstructured, parse_pattern
from aerogel.train import snapshot
from aerogel.train.batches import Alter, Batch, Sequences, Stream
from aerogel.train.device import random_state, set_random_state
from aerogel.train.linear_inputs import inputs_of
from aerogel.train.masks import MaskLock
from aerogel.train.options import Options, Pruner
from aerogel.train.pruners import by_magnitude
from aerogel.train.rate import find_rate
from aerogel.train.schedule import Clock, learning_rate, stages
from aerogel.train.sparse import SparseProducts
from aerogel.train.trainee import Trainee
from aerogel.train.updates import Objective, Updates

log = logging.getLogger("aerogel")

#: Prunings of a run that has a pruner and does not say how often it is called.
STAGES = 16
#: Steps after which it is looked whether what is pruned is still 0; also before each snapshot and at the end.
VERIFY = 64
#: Steps after which the coordinates of Options.whiten are found anew, and tokens that they are found from.
WHITEN, WHITEN_TOKENS = 1000, 1 << 13
#: Minutes after which a run is saved for the first time, where it is not saved more often anyway.
FIRST_SAVE = 1.0


def prunes_at_once(options: Options, prune: Pruner | None) -> bool:
    """Whether the student is pruned before the training, not while it learns."""
    return options.sparsity != 0 and options.stages is None and prune is None


def check_snapshot(file: Path, resume: bool) -> None:
    """A run that starts must not overwrite the snapshot of another one."""
    if not resume and file.exists():
        raise RecipeError(f"{file}: there is a snapshot of an earlier run: resume it, or remove the file")


class Loop:
    """One training run. `run` trains to the end of the budget, or of a piece of it, from the snapshot if there is one.

    Attributes:
        student: where the options' device is.
        rate: the highest learning rate; of "auto" None until it is found.
        finished: whether the budget is used up.
    """

    def __init__(
        self,
        student: Trainee,
        sequences: Sequences,
        objective: Objective,
        options: Options,
        recipe: dict[str, Any],
        prune: Pruner | None = None,
        file: Path | None = None,
        alter: Alter | None = None,
    ) -> None:
        self.student, self._options = student, options
        self._sequences, self._recipe, self._file = sequences, recipe, file
        self._updates = Updates(student, objective, options)
        self._stream = Stream(sequences, options.batch_tokens, options.seed, alter)
        self.clock = Clock(options.steps, options.minutes)
        self.rate = None if isinstance(options.lr, str) else options.lr
        self.finished = False
        self._pruned_before = prunes_at_once(options, prune)
        self._prunable = student.by_role(Role.LINEAR)
        self._own_names = {id(p): name for name, p in student.named_parameters()}
        pattern = parse_pattern(options.pattern, options.sparsity) if options.sparsity != 0 else Unstructured(0.0)
        self._prune = prune or by_magnitude(pattern)
        found = self._zeros()
        self.lock = MaskLock(student, {self._own(name): ~zeros for name, zeros in found.items()})
        self._updates.clear = self.lock.clear_gradients
        initial = self.lock.sparsity if options.initial is None else options.initial
        final = max(pattern.sparsity, initial)
        count = options.stages or (STAGES if prune is not None else 0)
        self._stages = stages(count, initial, final, options.prune_until) if count and pattern.sparsity > 0 else []
        if self.rate is None and self._stages:
            raise RecipeError("lr: auto is found for a student that is pruned before it learns, not with stages")
        self._stage = 0
        self.tokens = 0
        self._recent: deque[dict[str, float]] = deque(maxlen=200)

    @property
    def losses(self) -> dict[str, float]:
        """The terms of the loss, means over the last steps."""
        names = list(self._recent[-1]) if self._recent else []
        return {name: float(np.mean([step[name] for step in self._recent if name in step])) for name in names}

    @property
    def sparsity(self) -> float:
        """Of the linears."""
        size = sum(p.numel() for p in self._prunable.values())
        return sum(int((p == 0).sum()) for p in self._prunable.values()) / size

    def run(self, resume: bool = False, report: Callable[[str], None] | None = None) -> None:
        """Trains to the end of the budget, or for options.piece_minutes: then there is a snapshot.

        Raises:
            PrunedWeightError: a pruned weight came back, which nothing here does.
            DataError: the loss is not finite.
            RecipeError: the budget was over before the first step.
        """
        options = self._options
        self._start(resume)
        # no gradient, no momentum: the optimizer leaves pruned weights at 0, and verify() looks
        with self.lock.attached():
            if self._updates.whitening is not None and not self._updates.whitening.measured:  # nor by a first snapshot
                self._whiten()
            if self.rate is None:
                self.rate = find_rate(self._updates, self._stream, options, report)
            self.clock.begin()
            self._train(report)
            if self.clock.step == 0:
                kept = "" if self._file is None or not self._file.exists() else f"; {self._file} has the pruned model"
                raise RecipeError(
                    f"minutes: {options.minutes:g} were over before the first step: nothing was trained{kept}"
                )
            self.finished = self.clock.progress >= 1
            if self.finished:
                for stage in self._stages[self._stage :]:  # a budget so small that it ended between two stages
                    self._prune_to(stage.sparsity)
                self._stage = len(self._stages)
                self.lock.verify()
            elif self._file is not None:
                with self.clock.stopped():
                    self.save()
        self.student.products = None
        self.student.eval()

    def _start(self, resume: bool) -> None:
        options = self._options
        if resume:
            assert self._file is not None
            self._load(snapshot.read(self._file, self._recipe))
        else:
            if self._file is not None:
                check_snapshot(self._file, resume)
            torch.manual_seed(options.seed)
            if self._file is not None and options.save_minutes and self._pruned_before:
                self.save()  # the pruning may have taken longer than all that follows
        self.student.train()
        self._use_zeros()

    def _train(self, report: Callable[[str], None] | None) -> None:
        options, clock = self._options, self.clock
        said = saved = time.monotonic()
        wait = 60 * min(options.save_minutes, FIRST_SAVE)
        said_step, said_tokens = clock.step, self.tokens
        until = math.inf if options.piece_minutes is None else clock.elapsed + 60 * options.piece_minutes
        while (progress := clock.progress) < 1:
            while self._stage < len(self._stages) and self._stages[self._stage].begin <= progress:
                with clock.stopped():
                    self._prune_to(self._stages[self._stage].sparsity)
                self._stage += 1
            self._step([next(self._stream) for _ in range(options.accumulate)], progress)
            now = time.monotonic()
            if now - said >= options.log_seconds:
                line = self._line((clock.step - said_step) / (now - said), (self.tokens - said_tokens) / (now - said))
                log.info("%s", line)
                if report is not None:
                    report(line)
                said, said_step, said_tokens = now, clock.step, self.tokens
            if self._file is not None and options.save_minutes and now - saved >= wait:
                with clock.stopped():
                    self.save()
                saved, wait = time.monotonic(), 60 * options.save_minutes
            if clock.elapsed >= until:  # after a step, so that every piece has one
                break

    def _use_zeros(self) -> None:
        """From here on the student multiplies by what its masks keep alone, where that is faster."""
        on_cpu = self._updates.device.type == "cpu"
        self.student.products = SparseProducts(self.lock.masks, self._updates.threads_of_part) if on_cpu else None

    def save(self) -> None:
        """Writes a snapshot."""
        assert self._file is not None
        self.lock.verify()
        state = {
            "step": self.clock.step,
            "elapsed": self.clock.elapsed,
            "tokens": self.tokens,
            "stage": self._stage,
            "rate": self.rate,
            "position": list(self._stream.position),
            "random": random_state(self._updates.device),
            "parameters": {self._own_names[id(p)]: p.detach().cpu() for p in self._updates.trained},
            "masks": self.lock.state_dict(),
            "optimizer": self._updates.optimizer.state_dict(),
            "whitening": self._updates.whitening.state_dict() if self._updates.whitening is not None else {},
            "recent": list(self._recent),
        }
        snapshot.write(self._file, self._recipe, state)

    def _load(self, state: dict[str, Any]) -> None:
        """Takes over a snapshot, of a run on this device or on another one."""
        with torch.no_grad():
            for name, values in state["parameters"].items():
                self.student.get_parameter(name).copy_(values)
        self.lock.load_state_dict(state["masks"])
        self._updates.load(state["optimizer"])
        if self._updates.whitening is not None:
            self._updates.whitening.load(state["whitening"], self.lock.masks)
        self.clock.resume(state["step"], state["elapsed"])
        self.tokens, self._stage, self.rate = state["tokens"], state["stage"], state["rate"]
        self._stream.position = (state["position"][0], state["position"][1])
        set_random_state(self._updates.device, state["random"])
        self._recent.extend(state["recent"])

    def _step(self, batches: Sequence[Batch], progress: float) -> None:
        """One update, and what is remembered of it."""
        options = self._options
        assert self.rate is not None
        if self._updates.whitening is not None and self.clock.step and self.clock.step % WHITEN == 0:
            self._whiten()
        rate = learning_rate(progress, self.rate, options.warmup)
        values = self._updates.update(batches, rate, options.quant if progress >= options.quant_from else None)
        if not np.isfinite(list(values.values())).all():
            raise DataError(
                f"step {self.clock.step}: the loss is not finite: {values}; try a lower lr than {self.rate}"
            )
        self._recent.append(values)
        self.clock.step += 1
        self.tokens += sum(len(batch.ids) for batch in batches)
        if self.clock.step % VERIFY == 0:
            self.lock.verify()

    def _prune_to(self, sparsity: float) -> None:
        prepare = getattr(self._prune, "prepare", None)
        if prepare is not None:
            prepare(self._inputs)
        with torch.no_grad():
            for name, parameter in self._prunable.items():
                weight = parameter.detach().cpu().numpy().copy()
                new, mask = self._prune(name, weight, sparsity)
                mask = np.asarray(mask, bool)
                self.lock.update(self._own(name), mask, regrow=self._options.regrow)
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(new, np.float32)))
        self.lock.apply(self._updates.optimizer)
        self._use_zeros()
        if self._updates.whitening is not None:
            self._whiten()
        log.info("step %d: pruned to %.1f %%", self.clock.step, 100 * self.sparsity)

    def _inputs(self, tokens: int) -> dict[str, tuple[int, Any, Any]]:
        """The inputs of all prunable linears over about so many tokens, the same texts at every stage."""
        return inputs_of(self.student, self._prunable, self._sample(tokens))

    def _sample(self, tokens: int) -> Iterator[Batch]:
        """Batches of about so many tokens, the same ones each time."""
        batches = self._sequences.epoch(0, self._options.batch_tokens, self._options.seed + 1)
        count = max(1, tokens // self._options.batch_tokens)
        return (self._sequences.batch(index) for index in batches[:count])

    def _whiten(self) -> None:
        """Finds the coordinates for the student as it is."""
        assert self._updates.whitening is not None
        self._updates.whitening.measure(self._sample(WHITEN_TOKENS), self.lock.masks)

    def _zeros(self) -> dict[str, torch.Tensor]:
        return {name: parameter.detach() == 0 for name, parameter in self._prunable.items()}

    def _own(self, name: str) -> str:
        """The name of a checkpoint's parameter inside the module."""
        return self._own_names[id(self._prunable[name])]

    def _line(self, steps: float, tokens: float) -> str:
        terms = " ".join(f"{name} {value:.4f}" for name, value in self._recent[-1].items())
        return (
            f"step {self.clock.step}, {self.clock.progress:.0%}: {steps:.2f} steps/s, {tokens:.0f} tokens/s, "
            f"sparsity {self.lock.sparsity:.1%}, {terms}"
        )


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """PyTorch with so many threads; `default_threads()` unless given."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or default_threads())
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Steps of the optimizer: forward, loss, backward over one batch or several, where and as precisely as the run says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from aerogel.architectures import Role
from aerogel.train.batches import Batch
from aerogel.train.device import place_of
from aerogel.train.options import Options
from aerogel.train.quantization import fake_quantized
from aerogel.train.trainee import Outputs, Trainee
from aerogel.train.whitening import Whitening

#: What the student gives for a batch -> the terms of the loss, weighted.
Terms = Callable[[Outputs], dict[str, torch.Tensor]]
#: A batch -> what its terms are, with the teacher's answers to it.
Objective = Callable[[Batch], Terms]

#: A part of a batch has so many tokens at least: below that PyTorch's steps cost more than what is in them.
PART_TOKENS = 256


class Updates:
    """AdamW on a student's parameters.

    On a CPU each thread takes a part of a batch through the student alone, as PyTorch gains little from more of them on such
    short steps: MiniLM at 80 % on two cores of Zen 5, 3,200 tokens a second with one thread, 3,550 with two, 4,200 so, and
    5,350 with twice the tokens a batch. Gradients of parts are added in their order: the same to the bit every time.

    Attributes:
        clear: takes the gradients of what is pruned away, where no hook sees them arise.
        device: where the student is, from here on.
        trained: the parameters that learn.
        optimizer: of those, in float32.
        whitening: the coordinates in which it steps; None: those of the weights.
    """

    def __init__(self, student: Trainee, objective: Objective, options: Options) -> None:
        self._place = place_of(options)
        self.device = self._place.device
        self._student, self._objective, self._options = student.to(self.device), objective, options
        frozen = () if options.train_embeddings else (Role.EMBEDDING,)
        for role in Role:
            for parameter in student.by_role(role).values():
                parameter.requires_grad_(role not in frozen)
        self.trained = [p for p in student.parameters() if p.requires_grad]
        self._fused = self.device.type in ("cpu", "cuda")
        self.clear: Callable[[], None] | None = None
        self._threads = torch.get_num_threads()
        # dropout draws from one generator, whoever comes first
        alone = self.device.type != "cpu" or self._threads == 1 or options.dropout > 0
        self._pool = None if alone else ThreadPoolExecutor(self._threads, "aerogel-train", torch.set_num_threads, (1,))
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.trained if p.ndim >= 2], "weight_decay": options.weight_decay},
                {"params": [p for p in self.trained if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=0.0,  # set at every step
            betas=(0.9, 0.98),
            fused=self._fused,
        )
        self.whitening = Whitening(self._student, options.whiten) if options.whiten else None
        # heads and trained embeddings are stored in the scheme too
        roles = (Role.LINEAR, Role.HEAD, Role.EMBEDDING) if options.train_embeddings else (Role.LINEAR, Role.HEAD)
        self._quantized = list(student.by_role(*roles).values())

    def update(self, batches: Sequence[Batch], rate: float, quant: str | None) -> dict[str, float]:
        """One step down the mean of the batches' gradients, each token's alike; no step if their loss is not finite.

        Args:
            batches: one after the other goes through the student, so that memory is needed for one.
            rate: the learning rate.
            quant: the scheme that weights are rounded by, or None.

        Returns:
            The terms of the loss, their means over the batches.
        """
        options = self._options
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        tokens = sum(len(batch.ids) for batch in batches)
        found: list[torch.Tensor] = []
        names: list[str] = []
        with fake_quantized(self._quantized, quant):
            for batch in batches:
                parts = [batch] if self._pool is None else batch.parts(self._threads, PART_TOKENS)
                shares = [len(part.ids) / tokens for part in parts]
                done = self._backward(parts[0], shares[0]) if len(parts) == 1 else self._side_by_side(parts, shares)
                names = list(done)
                found.append(torch.stack(list(done.values())))
        means = torch.stack(found).sum(0).tolist()  # where a GPU is waited for
        if np.isfinite(means).all():
            if options.clip:
                torch.nn.utils.clip_grad_norm_(self.trained, options.clip)
            if self.whitening is not None:
                self.whitening.enter()
            self.optimizer.step()
            if self.whitening is not None:
                self.whitening.leave()
        return dict(zip(names, means, strict=True))

    @property
    def threads_of_part(self) -> int:
        """Threads that a part of a batch has."""
        return self._threads if self._pool is None else 1

    def _forward(self, part: Batch, terms: Terms) -> dict[str, torch.Tensor]:
        attention = self._options.attention > 0
        with self._place.autocast():
            return terms(self._student(part, attention=True) if attention else self._student(part))

    def _backward(self, part: Batch, share: float) -> dict[str, torch.Tensor]:
        """Adds a part's gradients to those of the parameters; returns its share of the terms."""
        part = part.to(self.device)
        found = self._forward(part, self._objective(part))
        (torch.stack(list(found.values())).sum() * share).backward()  # type: ignore[no-untyped-call]  # PyTorch gives it no types
        return {name: value.detach() * share for name, value in found.items()}

    def _side_by_side(self, parts: Sequence[Batch], shares: Sequence[float]) -> dict[str, torch.Tensor]:
        """`_backward` of parts that make a batch, one in each thread; the teacher has answered before, with all threads."""

        def gradients(part: Batch, terms: Terms, share: float) -> tuple[dict[str, torch.Tensor], Sequence[Any]]:
            found = self._forward(part, terms)
            loss = torch.stack(list(found.values())).sum() * share
            made = torch.autograd.grad(loss, self.trained, allow_unused=True)
            return {name: value.detach() * share for name, value in found.items()}, made

        assert self._pool is not None
        done = list(self._pool.map(gradients, parts, [self._objective(part) for part in parts], shares))
        for parameter, *made in zip(self.trained, *(each for _, each in done), strict=True):
            for gradient in made:
                if (
                    gradient is not None
                ):  # never added in place of what autograd gave: parameters may have one between them
                    parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient
        if self.clear is not None:
            self.clear()
        return {name: torch.stack([each[name] for each, _ in done]).sum() for name in done[0][0]}

    def load(self, state: dict[str, Any]) -> None:
        """Takes over the optimizer's state from a run on this device or on another one."""
        for group in state["param_groups"]:
            group["fused"] = self._fused
        self.optimizer.load_state_dict(state)

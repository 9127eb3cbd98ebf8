"""Steps of the optimizer: forward, loss, backward over one batch or several, where and as precisely as the run says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

#: (what the student gave for a batch) -> the terms of the loss, weighted.
Objective = Callable[[Batch, Outputs], dict[str, torch.Tensor]]


class Updates:
    """AdamW on a student's parameters.

    Attributes:
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
        """One step down the mean of the batches' gradients; no step if their loss is not finite.

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
        found: list[torch.Tensor] = []
        names: list[str] = []
        with fake_quantized(self._quantized, quant):
            for batch in batches:
                batch = batch.to(self.device)
                with self._place.autocast():
                    outputs = self._student(batch, attention=True) if options.attention else self._student(batch)
                terms = self._objective(batch, outputs)
                names, values = list(terms), torch.stack(list(terms.values()))
                (values.sum() / len(batches)).backward()  # type: ignore[no-untyped-call]  # PyTorch gives it no types
                found.append(values.detach())
        means = torch.stack(found).mean(0).tolist()  # where a GPU is waited for
        if np.isfinite(means).all():
            if options.clip:
                torch.nn.utils.clip_grad_norm_(self.trained, options.clip)
            if self.whitening is not None:
                self.whitening.enter()
            self.optimizer.step()
            if self.whitening is not None:
                self.whitening.leave()
        return dict(zip(names, means, strict=True))

    def load(self, state: dict[str, Any]) -> None:
        """Takes over the optimizer's state from a run on this device or on another one."""
        for group in state["param_groups"]:
            group["fused"] = self._fused
        self.optimizer.load_state_dict(state)

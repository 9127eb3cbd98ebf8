"""Steps of AdamW in coordinates in which the inputs of a pruned linear are white.

A row w of a linear, with weights kept at places S, multiplies x_S. What a step of w does to the output is as large as x_S
is in that direction, and inputs of Transformers are far from alike: all tokens share a mean, and a few directions around it
are many times as large as the rest. AdamW scales each weight by itself and knows nothing of directions. So a fit that is
good (pruning leaves a least-squares one) is lost in the first steps, and then learnt again. Here AdamW sees

    u = C_SS^(1/2) w,   gradient C_SS^(-1/2) g,   and its step du becomes C_SS^(-1/2) du,

with C the covariance of x; the mean m belongs to the bias, which takes back what a step of W does to it: b -= dW m.
(Desjardins et al., arXiv 1507.00210, whiten dense layers; with a mask every row has a matrix of its own.) C is taken as
D + V V^T, diagonal and of low rank, so that every C_SS has a small root: with Z = D^(-1/2) V and Z_S^T Z_S = P diag(e) P^T,

    C_SS^(-1/2) ~ D^(-1/2) (1 + Z_S M Z_S^T),   M = P diag(((1 + e)^(-1/2) - 1) / e) P^T,

which times its transpose is C_SS^-1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from aerogel.train.batches import Batch
from aerogel.train.linear_inputs import see_inputs
from aerogel.train.trainee import Trainee

#: What is added to the variances, in means of them.
DAMPING = 0.03
#: Rows whose matrices are found at once.
_ROWS = 128
#: Below it an eigenvalue's factor is taken at 0.
_LEAST = 1e-6


@dataclass(frozen=True)
class Basis:
    """The covariance of a linear's input, in means of its diagonal.

    Attributes:
        mean: [K]; 0 where there is no bias to take it.
        scale: [K], D^(-1/2).
        directions: [K, rank], Z.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    directions: torch.Tensor

    @classmethod
    def of(cls, second: torch.Tensor, mean: torch.Tensor, rank: int) -> Basis:
        """Of the mean of x x^T [K, K] and of x [K]."""
        covariance = second - torch.outer(mean, mean)
        covariance = covariance / covariance.diagonal().mean().clamp_min(1e-12)
        values, vectors = torch.linalg.eigh(covariance)
        values, vectors = values[-rank:].clamp_min(0), vectors[:, -rank:]
        rest = (covariance.diagonal() - vectors.square() @ values).clamp_min(0) + DAMPING
        scale = rest.rsqrt()
        return cls(mean, scale, vectors * values.sqrt() * scale[:, None])


class _Linear:
    """The coordinates of one weight [N, K] with a mask, True: kept."""

    def __init__(self, weight: torch.nn.Parameter, bias: torch.nn.Parameter | None, basis: Basis, kept: torch.Tensor):
        self.weight, self.bias, self.basis, self.kept = weight, bias, basis, kept.to(weight.dtype)
        z, parts = basis.directions, []
        for begin in range(0, len(weight), _ROWS):
            values, vectors = torch.linalg.eigh((z.T * self.kept[begin : begin + _ROWS, None, :]) @ z)
            values = values.clamp_min(0)
            factor = torch.where(values > _LEAST, ((1 + values).rsqrt() - 1) / values.clamp_min(_LEAST), -0.5)
            parts.append((vectors * factor[:, None, :]) @ vectors.transpose(1, 2))
        self._middle = torch.cat(parts)  # [N, rank, rank]
        self._before = weight.detach()

    def enter(self) -> None:
        """Takes the gradients to the coordinates."""
        gradient = self.weight.grad
        if gradient is None:
            return
        if self.bias is not None and self.bias.grad is not None:
            gradient.addr_(self.bias.grad, self.basis.mean, alpha=-1)
        gradient.mul_(self.kept).mul_(self.basis.scale)
        self._turn(gradient)
        self._before = self.weight.detach().clone()

    def leave(self) -> None:
        """Makes a step of the weights of one in the coordinates."""
        if self.weight.grad is None:
            return
        step = self.weight.detach() - self._before
        self._turn(step)
        step.mul_(self.basis.scale)
        self.weight.detach().copy_(self._before).add_(step)
        if self.bias is not None and self.bias.grad is not None:
            self.bias.detach().sub_(step @ self.basis.mean)

    def _turn(self, rows: torch.Tensor) -> None:
        """Adds Z M Z^T to what is 0 where nothing is kept."""
        z = self.basis.directions
        inner = torch.bmm((rows @ z)[:, None, :], self._middle)[:, 0, :]
        rows.add_((inner @ z.T).mul_(self.kept))


class Whitening:
    """The coordinates of all pruned linears of a student; without any until `measure` or `load`.

    Args:
        student: on the device where it learns.
        rank: directions of a covariance that are told apart.
    """

    def __init__(self, student: Trainee, rank: int) -> None:
        self._student, self._rank = student, rank
        self._bases: dict[str, Basis] = {}
        self._linears: list[_Linear] = []

    @property
    def measured(self) -> bool:
        """Whether there are coordinates."""
        return bool(self._bases)

    @torch.no_grad()
    def measure(self, batches: Iterable[Batch], masks: Mapping[str, torch.Tensor]) -> None:
        """Finds the coordinates for the student as it is, from what its linears see of the batches.

        Args:
            batches: what to run.
            masks: parameter's name -> bool [N, K], True: kept. Linears without one keep theirs.
        """
        sums: dict[str, list[Any]] = {}

        def add(name: str, x: torch.Tensor) -> None:
            entry = sums.setdefault(name, [0, x.new_zeros(x.shape[1], x.shape[1]), x.new_zeros(x.shape[1])])
            entry[0] += len(x)
            entry[1].addmm_(x.T, x)
            entry[2].add_(x.sum(0))

        first = see_inputs(self._student, masks, batches, add)
        found = {}
        for name, (tokens, second, total) in sums.items():
            mean = total / tokens
            if any(self._bias(each) is None for each, of in first.items() if of == name):
                mean = torch.zeros_like(mean)
            found[name] = Basis.of(second / tokens, mean, min(self._rank, len(mean)))
        self._bases = {name: found[of] for name, of in first.items()}
        self._use(masks)

    def enter(self) -> None:
        """Before a step of the optimizer."""
        with torch.no_grad():
            for linear in self._linears:
                linear.enter()

    def leave(self) -> None:
        """After it."""
        with torch.no_grad():
            for linear in self._linears:
                linear.leave()

    def state_dict(self) -> dict[str, list[torch.Tensor]]:
        """What a snapshot keeps."""
        return {n: [b.mean.cpu(), b.scale.cpu(), b.directions.cpu()] for n, b in self._bases.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, list[torch.Tensor]], masks: Mapping[str, torch.Tensor]) -> None:
        """Takes over what `state_dict` gave, for masks as they were then."""
        device = next(self._student.parameters()).device
        self._bases = {name: Basis(*(part.to(device) for part in parts)) for name, parts in state.items()}
        self._use(masks)

    def _use(self, masks: Mapping[str, torch.Tensor]) -> None:
        named = self._student.named()
        self._linears = [
            _Linear(named[name], self._bias(name), basis, masks[name].to(named[name].device))
            for name, basis in self._bases.items()
        ]

    def _bias(self, name: str) -> torch.nn.Parameter | None:
        """The bias of a linear, where it has one of its own that learns."""
        named = self._student.named()
        bias = named.get(name.removesuffix("weight") + "bias") if name.endswith("weight") else None
        fits = bias is not None and bias.requires_grad and bias.shape == named[name].shape[:1]
        return bias if fits else None

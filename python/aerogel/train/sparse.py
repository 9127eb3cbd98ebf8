"""Products with pruned weights on the CPU, forward and backward, by the engine's float32 kernel for sparse rows.

Where the zeros are is known and stays, only the values change at every step. So the index of the kept weights is made once,
for a weight and for its transpose, and a step gathers and packs values. Of the weight's own gradient only what the masks
keep is computed, the rest is 0. What that is worth is in docs/compression.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aerogel._core import PackedWeight, linear, pack_csr, sampled_product

#: Denser weights, and fewer rows, are PyTorch's: packing would cost more than the zeros save.
DENSEST, FEWEST_ROWS = 0.35, 256
#: The same where PyTorch multiplies in bfloat16, 4.5 times as fast (Zen 5): at .2 a step takes 2 % less with these kernels.
DENSEST_BESIDE_BF16 = 0.25

Parts = tuple[str, ...]


@dataclass(frozen=True)
class _Index:
    """The kept weights of parts stacked along N, of the stack [N, K] or of its transpose.

    Attributes:
        columns: the stack's K, or its N.
        rows: int32 [N + 1 or K + 1], where each row of it begins.
        column: int32 [kept].
        order: int64 [kept], which of the kept weights in row-major order of the stack come one after the other; None: these.
    """

    columns: int
    rows: NDArray[np.int32]
    column: NDArray[np.int32]
    order: torch.Tensor | None

    def pack(self, values: torch.Tensor) -> PackedWeight:
        chosen = values if self.order is None else values.index_select(0, self.order)
        return pack_csr(self.columns, self.rows, self.column, chosen.numpy())


class _Stack:
    """What is known of the zeros of parts that one product multiplies by, masks bool [N_i, K], True: kept."""

    def __init__(self, masks: Sequence[torch.Tensor]) -> None:
        kept = np.concatenate([mask.numpy() for mask in masks])
        self.heights = [len(mask) for mask in masks]
        self.places = [mask.reshape(-1).nonzero().reshape(-1) for mask in masks]
        row, column = kept.nonzero()
        self.along = _Index(kept.shape[1], _begins(kept), column.astype(np.int32), None)
        order = np.argsort(column, kind="stable")
        self.across = _Index(kept.shape[0], _begins(kept.T), row[order].astype(np.int32), torch.from_numpy(order))

    def values(self, weights: Sequence[torch.Tensor]) -> torch.Tensor:
        """float32 [kept], in row-major order of the stack."""
        found = [w.detach().reshape(-1).index_select(0, at) for w, at in zip(weights, self.places, strict=True)]
        return found[0] if len(found) == 1 else torch.cat(found)


class SparseProducts:
    """x W^T with pruned W, for the parameters whose masks it has.

    Args:
        masks: parameter's name -> bool [N, K] on the CPU, True: kept; what else a parameter holds must be 0.
        threads: of the kernel.
    """

    def __init__(self, masks: Mapping[str, torch.Tensor], threads: int) -> None:
        self._masks = {n: m for n, m in masks.items() if m.ndim == 2}
        self._density = {n: float(m.float().mean()) for n, m in self._masks.items()}
        self._threads = threads
        self._stacks: dict[Parts, _Stack] = {}

    def __call__(
        self, parts: Parts, x: torch.Tensor, weights: Sequence[torch.Tensor], bias: torch.Tensor | None
    ) -> torch.Tensor | None:
        """float32 [rows, N] of x [rows, K] and a bias [N]; None where a dense product is as fast, or of another type."""
        rounds = torch.is_autocast_enabled("cpu")
        if not (x.dtype == torch.float32 or rounds and x.dtype == torch.bfloat16) or len(x) < FEWEST_ROWS:
            return None
        most = DENSEST_BESIDE_BF16 if rounds else DENSEST
        if any(self._density.get(part, 1.0) > most for part in parts):
            return None
        if parts not in self._stacks:
            self._stacks[parts] = _Stack([self._masks[part] for part in parts])
        apply: Callable[..., torch.Tensor] = _Product.apply
        return apply(x, bias, self._stacks[parts], self._threads, *weights)


class _Product(torch.autograd.Function):
    """x [rows, K], bias [N] or None, weights [N_i, K] -> [rows, N]. Gradients of weights that are not kept are 0."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, bias: torch.Tensor | None, stack: _Stack, threads: int, *weights: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(x)
        values = stack.values(weights)
        ctx.stack, ctx.threads = stack, threads
        ctx.across = (
            stack.across.pack(values) if ctx.needs_input_grad[0] else None
        )  # as they are now: they may be rounded
        return _multiply(stack.along.pack(values), x, bias, threads)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), (x,) = gradients, ctx.saved_tensors
        below = None if ctx.across is None else _multiply(ctx.across, gradient, None, ctx.threads).to(x.dtype)
        of_bias = gradient.sum(0) if ctx.needs_input_grad[1] else None
        of_weights = torch.split(_at_places(ctx.stack.along, gradient, x, ctx.threads), ctx.stack.heights)
        return below, of_bias, None, None, *of_weights


def _multiply(weight: PackedWeight, x: torch.Tensor, bias: torch.Tensor | None, threads: int) -> torch.Tensor:
    added = None if bias is None else bias.detach().contiguous().numpy()
    return torch.from_numpy(linear(weight, x.detach().float().contiguous().numpy(), added, threads))


def _at_places(index: _Index, y: torch.Tensor, x: torch.Tensor, threads: int) -> torch.Tensor:
    """y^T x, float32 [N, K], where weights are kept, and 0 elsewhere."""
    left, right = (part.detach().float().contiguous().numpy() for part in (y, x))
    return torch.from_numpy(sampled_product(left, right, index.rows, index.column, threads))


def _begins(kept: NDArray[np.bool_]) -> NDArray[np.int32]:
    return np.concatenate(([0], np.cumsum(kept.sum(1)))).astype(np.int32)

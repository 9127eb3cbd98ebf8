"""What the linears of a model in training see at their inputs, for calibrated pruning methods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from aerogel.train.batches import Batch
from aerogel.train.program import Parts
from aerogel.train.trainee import Trainee


@torch.no_grad()
def inputs_of(model: Trainee, names: Iterable[str], batches: Iterable[Batch]) -> dict[str, tuple[int, Any, Any]]:
    """Runs the batches and sums up the input x [tokens, K] of each linear.

    Args:
        model: in evaluation mode afterwards as before.
        names: the linears' weights, by their names in a checkpoint.
        batches: what to run.

    Returns:
        name -> (tokens, gram float32 [K,K]: mean of x x^T, largest float32 [K]: max |x|), the fields of
        `aerogel.calibrate.Statistics`.
    """
    wanted = set(names)
    sums: dict[str, list[Any]] = {}
    same: dict[str, str] = {}  # linears that read what another one reads: queries, keys and values

    def see(parts: Parts, x: torch.Tensor) -> None:
        chosen = [name for name in parts if name in wanted]
        if not chosen:
            return
        first, *others = chosen
        same.update(dict.fromkeys(others, first))
        x = x.float()
        if first not in sums:
            sums[first] = [0, x.new_zeros(x.shape[1], x.shape[1]), x.new_zeros(x.shape[1])]
        entry = sums[first]
        entry[0] += len(x)
        entry[1].addmm_(x.T, x)
        torch.maximum(entry[2], x.abs().amax(0), out=entry[2])

    training = model.training
    model.eval()
    model.see = see
    try:
        device = next(model.parameters()).device
        for batch in batches:
            model(batch.to(device))
    finally:
        model.see = None
        model.train(training)
    found = {
        name: (tokens, (gram / tokens).cpu().numpy(), largest.cpu().numpy())
        for name, (tokens, gram, largest) in sums.items()
    }
    return found | {name: found[other] for name, other in same.items()}

"""What the linears of a model in training see at their inputs, for calibrated pruning methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
    sums: dict[str, list[Any]] = {}

    def add(first: str, x: torch.Tensor) -> None:
        if first not in sums:
            sums[first] = [0, x.new_zeros(x.shape[1], x.shape[1]), x.new_zeros(x.shape[1])]
        entry = sums[first]
        entry[0] += len(x)
        entry[1].addmm_(x.T, x)
        torch.maximum(entry[2], x.abs().amax(0), out=entry[2])

    first = see_inputs(model, names, batches, add)
    found = {
        name: (tokens, (gram / tokens).cpu().numpy(), largest.cpu().numpy())
        for name, (tokens, gram, largest) in sums.items()
    }
    return {name: found[of] for name, of in first.items()}


@torch.no_grad()
def see_inputs(
    model: Trainee, names: Iterable[str], batches: Iterable[Batch], add: Callable[[str, torch.Tensor], None]
) -> dict[str, str]:
    """Runs the batches and hands on the inputs of linears.

    Args:
        model: in evaluation mode afterwards as before.
        names: the linears' weights, by their names in a checkpoint.
        batches: what to run.
        add: called with the first of the names that read an input, as queries, keys and values do, and that: float32
            [tokens, K].

    Returns:
        name -> the first of those that read the same.
    """
    wanted, first = set(names), dict[str, str]()

    def see(parts: Parts, x: torch.Tensor) -> None:
        chosen = [name for name in parts if name in wanted]
        if chosen:
            first.update(dict.fromkeys(chosen, chosen[0]))
            add(chosen[0], x.float())

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
    return first

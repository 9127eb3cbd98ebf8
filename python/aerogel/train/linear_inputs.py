"""What the linears of a model in training see at their inputs, for calibrated pruning methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from aerogel.train.batches import Batch
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
    wanted = {id(parameter): name for name, parameter in model.named().items() if name in set(names)}
    sums: dict[str, list[Any]] = {}
    same: dict[str, str] = {}  # linears that read what another one reads: queries, keys and values
    last: list[Any] = [None, ""]

    def hook(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def see(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            if args[0] is last[0] and name not in sums:
                same[name] = last[1]
            if name in same:
                return
            last[:] = [args[0], name]
            x = args[0].reshape(-1, args[0].shape[-1]).float()
            if name not in sums:
                sums[name] = [0, torch.zeros(x.shape[1], x.shape[1]), torch.zeros(x.shape[1])]
            entry = sums[name]
            entry[0] += len(x)
            entry[1].addmm_(x.T, x)
            torch.maximum(entry[2], x.abs().amax(0), out=entry[2])

        return see

    handles = [
        module.register_forward_pre_hook(hook(wanted[id(module.weight)]))
        for module in model.modules()
        if isinstance(module, nn.Linear) and id(module.weight) in wanted
    ]
    training = model.training
    model.eval()
    try:
        for batch in batches:
            model(batch)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    found = {
        name: (tokens, (gram / tokens).numpy(), np.asarray(largest)) for name, (tokens, gram, largest) in sums.items()
    }
    return found | {name: found[other] for name, other in same.items()}

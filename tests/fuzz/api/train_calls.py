"""The public calls that need PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from aerogel import train

from .calls import Call
from .world import TEXTS, World

_SLOW = ("steps", "minutes", "stages", "rewind")


def train_calls(w: World) -> dict[str, Call]:
    options = train.Options(steps=1, sparsity=0.5, threads=1, batch_tokens=32, max_tokens=8, save_minutes=0)
    plain = {**options.recipe(), "threads": 1, "save_minutes": 0.0, "log_seconds": 10.0}
    whole = {"texts": TEXTS, "teacher": None, "options": options, "prune": None, "resume": False, "report": None}

    def distill(**arguments: Any) -> Any:
        return train.distill(w.bert, w.out(), **arguments)

    def finetune(**arguments: Any) -> Any:
        return train.finetune(w.classifier, w.out(), **arguments)

    def distill_with(**arguments: Any) -> Any:
        return train.distill(w.bert, w.out(), TEXTS, options=train.Options(**arguments))

    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    masks = {"0.weight": np.ones((3, 4), bool)}

    def update(**arguments: Any) -> None:
        train.MaskLock(network, {"0.weight": np.ones((3, 4), bool)}).update(**arguments)

    def restore(state: Any) -> None:
        train.MaskLock(network, masks).load_state_dict(state)

    def ticket(**arguments: Any) -> Any:
        return train.lottery_ticket(network, lambda model, begin, end, lock: None, **arguments)

    return {
        "Options": Call(train.Options, plain, weight=6),
        "distill": Call(distill, whole, weight=1),
        "distill options": Call(distill_with, plain, _SLOW, weight=1),
        "finetune": Call(finetune, {**whole, "labels": [0, 1, 0, 1]}, weight=1),
        "MaskLock": Call(train.MaskLock, {"model": network, "masks": masks}),
        "MaskLock.update": Call(update, {"name": "0.weight", "mask": np.ones((3, 4), bool), "regrow": False}),
        "MaskLock.load_state_dict": Call(restore, {"state": train.MaskLock(network, masks).state_dict()}),
        "lottery_ticket": Call(
            ticket, {"steps": 2, "rewind": 1, "sparsities": [0.2, 0.5], "prune": None, "names": ["0.weight"]}, _SLOW
        ),
    }

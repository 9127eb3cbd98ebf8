"""Retraining of pruned models, of any family (extra `[train]`: PyTorch).

    train.distill(source, out, texts, sparsity=0.8, minutes=30)     # the pruned student learns from the dense model
    train.finetune(source, out, texts, labels, minutes=10)          # on a labelled task, with or without a teacher
    lock = train.MaskLock(model)                                    # in anyone's training loop: pruned stays pruned

PyTorch is imported at first use; without it the error names the extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aerogel.errors import AerogelError

if TYPE_CHECKING:
    from aerogel.prune import cubic
    from aerogel.train.distillation import distill
    from aerogel.train.finetuning import finetune
    from aerogel.train.masks import MaskLock, PrunedWeightError
    from aerogel.train.options import Options, TrainReport
    from aerogel.train.ticket import lottery_ticket

__all__ = [
    "MaskLock",
    "Options",
    "PrunedWeightError",
    "TrainReport",
    "cubic",
    "distill",
    "finetune",
    "lottery_ticket",
]

_LAZY = {
    "MaskLock": "masks",
    "Options": "options",
    "PrunedWeightError": "masks",
    "TrainReport": "options",
    "cubic": "schedule",
    "distill": "distillation",
    "finetune": "finetuning",
    "lottery_ticket": "ticket",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'aerogel.train' has no attribute {name!r}")
    try:
        value = getattr(import_module(f"aerogel.train.{_LAZY[name]}"), name)
    except ModuleNotFoundError as absent:
        if absent.name != "torch":
            raise
        raise AerogelError(f"aerogel.train.{name} needs PyTorch: pip install 'aerogel[train]'") from absent
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

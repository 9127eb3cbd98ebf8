"""What can be chosen about a training run, and what it reports."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from aerogel._util.checks import thread_count, whole_number
from aerogel._util.fields import check_fields
from aerogel.errors import RecipeError
from aerogel.prune import parse_pattern
from aerogel.quantize import scheme

#: (name, weight float32 [N,K], sparsity) -> (new weight float32 [N,K], mask bool [N,K]); 0 outside the mask.
Pruner = Callable[[str, np.ndarray, float], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Options:
    """A training run. The budget has no default; the rest are starting points for distilling a sentence encoder.

    Attributes:
        steps, minutes: the budget of the whole training, however often it is interrupted: one of them, or both (whichever is
            used up first). Pruning, and looking for a learning rate, are not counted. Only a run of steps alone can be
            repeated to the bit.
        piece_minutes: after so much training the run stops with a snapshot, to be resumed; None: it goes on to its end. What
            comes out in the end does not depend on it.
        sparsity: of the linear layers at the end; 0: the zeros that the source has, and no more; None: 0.8, or what the
            pattern says.
        pattern: "unstructured", "Q:64", "N:M", "Q:64x4", "1x4", "4x1" or "2x1".
        stages: prunings while it learns, on a cubic curve from the source's sparsity to `sparsity`; None: one before, fitted
            to the texts (see `at_once.py`), or 16 where a pruner of one's own is given.
        prune_until: the part of the run over which stages are spread.
        initial: the sparsity that the curve starts from; None: the source's.
        regrow: pruned weights may come back at a later stage, if the pruning method wants them.
        lr: the highest learning rate of AdamW; it warms up over `warmup` of the run and then falls as a cosine. "auto": the
            best of four short trials (see `aerogel.train.rate`), which take 4 to 50 steps each: about 5 % of a long run.
        warmup: part of the run.
        weight_decay: of AdamW, on matrices.
        whiten: AdamW steps in coordinates in which the inputs of pruned linears are white (see `aerogel.train.whitening`):
            so many directions of each input's covariance are told apart. 0: plain AdamW. None: 16 where `distill` trains an
            encoder that learns embeddings, else 0.
        clip: the largest norm of the gradient; 0: no clipping.
        batch_tokens: tokens of a batch, whose texts the threads of a CPU share.
        accumulate: batches of a step: their gradients' mean is what AdamW sees.
        hidden, attention, embedding, relation, logits, labels: weights of the losses (see `aerogel.train.losses`).
        temperature: of the logits' KL.
        teacher: how the teacher computes on a CPU: "int8", in the engine, weights and activations rounded, in a fraction of
            the time; "float32", in PyTorch, as on a GPU, and where `attention` is learned, whatever this says.
        top_logits: of a language model's teacher, so many of the most likely tokens are told apart, the rest is one; 0: all.
        dropout: on hidden states, of the student.
        augment: the part of the texts that are replaced by others made of them (see `aerogel.train.augment`), new ones in
            every epoch; for `distill` alone. None: 0.75 for an encoder that learns embeddings, else 0.
        quant: the scheme whose rounding the student trains against, straight-through (Bengio et al., arXiv 1308.3432);
            None: none.
        quant_from: the part of the run after which it does.
        train_embeddings: train the embedding tables too.
        max_tokens: longer texts are cut; None: what the model was made for.
        cache_bytes: most memory for the teacher's outputs. Beyond that it runs in every step.
        seed: of the order of batches and of dropout.
        threads: of PyTorch; None: the cores that the process may use.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto": a GPU where PyTorch has CUDA, else the CPU.
        precision: of matrix products, "float32" or "bf16"; "auto": bf16 on a GPU or a CPU
            that has instructions for it.
        save_minutes: a snapshot to resume from is written so often, for the first time after the pruning and again after a
            minute; 0: never.
        log_seconds: how often progress is reported.
    """

    steps: int | None = None
    minutes: float | None = None
    piece_minutes: float | None = None
    sparsity: float | None = None
    pattern: str = "unstructured"
    stages: int | None = None
    prune_until: float = 0.4
    initial: float | None = None
    regrow: bool = False
    lr: float | str = 1e-3
    warmup: float = 0.02
    weight_decay: float = 0.0
    whiten: int | None = None
    clip: float = 1.0
    batch_tokens: int = 1536
    accumulate: int = 1
    hidden: float = 1.0
    attention: float = 0.0
    embedding: float = 5.0
    relation: float = 0.0
    logits: float = 1.0
    labels: float = 1.0
    temperature: float = 1.0
    teacher: str = "int8"
    top_logits: int = 64
    dropout: float = 0.0
    augment: float | None = None
    quant: str | None = "int8"
    quant_from: float = 0.8
    train_embeddings: bool = False
    max_tokens: int | None = None
    cache_bytes: int = 4 << 30
    seed: int = 0
    threads: int | None = None
    device: str = "auto"
    precision: str = "auto"
    save_minutes: float = 5.0
    log_seconds: float = 10.0

    def __post_init__(self) -> None:
        check_fields(self, "", RecipeError)
        for name in ("prune_until", "warmup", "quant_from"):
            _within(name, getattr(self, name), 0, 1)
        if self.sparsity is not None:
            _within("sparsity", self.sparsity, 0, 1)
        _within("dropout", self.dropout, 0, 0.99)
        if self.augment is not None:
            _within("augment", self.augment, 0, 1)
        for name in ("hidden", "attention", "embedding", "relation", "logits", "labels", "weight_decay", "clip"):
            _within(name, getattr(self, name), 0, math.inf)
        if isinstance(self.lr, str):
            _one_of("lr", self.lr, r"auto", "a number, or auto")
        elif not self.lr > 0 or not math.isfinite(self.lr):
            raise RecipeError(f"lr: expected more than 0, got {self.lr}")
        if self.lr == "auto" and self.stages:
            raise RecipeError("lr: auto is found for a student that is pruned before it learns, not with stages")
        _one_of("device", self.device, r"auto|cpu|mps|cuda(:\d{1,3})?", "auto, cpu, cuda, cuda:N or mps")
        _one_of("precision", self.precision, r"auto|float32|bf16", "auto, float32 or bf16")
        _one_of("teacher", self.teacher, r"int8|float32", "int8 or float32")
        if self.piece_minutes is not None and not 0 < self.piece_minutes < math.inf:
            raise RecipeError(f"piece_minutes: expected more than 0, got {self.piece_minutes}")
        if not self.temperature > 0:
            raise RecipeError(f"temperature: expected more than 0, got {self.temperature}")
        least_of = {"batch_tokens": 1, "accumulate": 1, "max_tokens": 1, "stages": 0, "seed": 0, "cache_bytes": 0}
        for name, least in {**least_of, "top_logits": 0, "whiten": 0}.items():
            if getattr(self, name) is not None:
                whole_number(name, getattr(self, name), least, error=RecipeError)
        for name in ("save_minutes", "log_seconds"):
            _within(name, getattr(self, name), 0, math.inf)
        if self.initial is not None:
            _within("initial", self.initial, 0, 1)
        if self.threads is not None:
            thread_count(self.threads, RecipeError)
        parse_pattern(self.pattern)
        if self.quant is not None:
            scheme(self.quant)

    #: What may differ between a run and its resumption.
    RESUMABLE = ("threads", "device", "precision", "piece_minutes", "save_minutes", "log_seconds")

    def recipe(self) -> dict[str, Any]:
        """What decides the result, as plain values."""
        return {name: value for name, value in asdict(self).items() if name not in self.RESUMABLE}


@dataclass(frozen=True)
class TrainReport:
    """What a run did.

    Attributes:
        path: the folder that was written; of a run that is not finished, its snapshot.
        steps, seconds, tokens: how much was trained, resumed parts included.
        sparsity: of the linear layers.
        losses: the terms of the loss, their means over the last 200 steps.
        finished: False after a piece of a run (Options.piece_minutes): the rest is to be resumed, nothing is written yet.
    """

    path: str
    steps: int
    seconds: float
    tokens: int
    sparsity: float
    losses: dict[str, float] = field(default_factory=dict)
    finished: bool = True


def _one_of(name: str, value: str, pattern: str, expected: str) -> None:
    if not re.fullmatch(pattern, value):
        raise RecipeError(f"{name}: expected {expected}, got {value!r}")


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # also refuses NaN
        raise RecipeError(f"{name}: expected a number from {least:g} to {most:g}, got {value}")

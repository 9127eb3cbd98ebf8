"""Pruning before the training: once, every layer fitted to the dense model's results on the texts.

What is left to learn is then a fraction of what magnitude pruning in stages leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from aerogel._core import default_threads
from aerogel.architectures import Role, architecture_of
from aerogel.calibrate import sequences
from aerogel.checkpoint import Checkpoint
from aerogel.checkpoint.messages import calibration_texts
from aerogel.compression.calibrated import compress_calibrated
from aerogel.compression.matrix import Choice
from aerogel.compression.recipe import Calibration
from aerogel.compression.texts import total_of
from aerogel.prune import parse_pattern
from aerogel.train.options import Options
from aerogel.train.trainee import Trainee

METHOD = "admm"


def prune_at_once(checkpoint: Checkpoint, student: Trainee, texts: Sequence[str], options: Options) -> None:
    """Prunes the linears of `student`, whose weights are the checkpoint's, to the options' sparsity and pattern.

    As `aerogel.compress` does with calibration texts: see `aerogel.prune.admm`, and `corrected_target` for what is fitted.
    """
    architecture = architecture_of(checkpoint)  # without the head that a student may have besides
    limits = (
        512 if architecture.generates or checkpoint.messages is not None else 128,
        architecture.max_positions,
        checkpoint.max_tokens,
        options.max_tokens,
    )
    prompts, tokenizer = calibration_texts(checkpoint, [text for text in texts if text.strip()])
    ids = sequences(
        prompts,
        tokenizer,
        min(limit for limit in limits if limit),
        total_of(Calibration(), architecture.generates),
        architecture.generates,
        seed=options.seed,
    )
    pattern = parse_pattern(options.pattern, options.sparsity)
    linears = {tensor.name for tensor in architecture.tensors() if tensor.role is Role.LINEAR}
    choices = {
        tensor.name: Choice("none", pattern if tensor.name in linears else None, METHOD)
        for tensor in architecture.tensors()
        if tensor.role is not Role.KEPT
    }
    made = compress_calibrated(
        architecture,
        checkpoint,
        ids,
        choices,
        correct=True,
        alpha=None,
        static=False,
        threads=options.threads or default_threads(),
        done=lambda name: None,
    )
    named = student.named()
    with torch.no_grad():
        for name in linears:
            named[name].copy_(torch.from_numpy(made.matrices[name].weight.dense()))
        for name, vector in made.vectors.items():
            named[name].copy_(torch.from_numpy(vector))

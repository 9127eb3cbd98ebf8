"""aerogel finetune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aerogel.cli.console import say
from aerogel.cli.options import (
    METHOD,
    TRAINING,
    Accumulate,
    BatchTokens,
    Device,
    Folder,
    Minutes,
    Overwrite,
    Piece,
    Rate,
    Resume,
    Rounding,
    SaveMinutes,
    Stages,
    Steps,
    Threads,
    TrainedFolder,
    TrainingSeed,
)
from aerogel.cli.training import given, rate, show


def command(
    source: Folder,
    out: TrainedFolder,
    data: Annotated[Path, typer.Option(metavar="FILE", help="Lines of text, a tab, and a label from 0.")],
    teacher: Annotated[
        str | None, typer.Option(metavar="DIR", help="A classifier to learn from in addition to the labels.")
    ] = None,
    sparsity: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Fraction of weights to remove. \\[default: only keep the zeros that are there]",
            rich_help_panel=METHOD,
        ),
    ] = None,
    steps: Steps = None,
    minutes: Minutes = None,
    piece: Piece = None,
    lr: Rate = None,
    stages: Stages = None,
    dropout: Annotated[
        float | None,
        typer.Option(min=0, max=0.99, help="Dropout of the student's hidden states.", rich_help_panel=TRAINING),
    ] = None,
    batch_tokens: BatchTokens = None,
    accumulate: Accumulate = None,
    device: Device = None,
    train_embeddings: Annotated[
        bool, typer.Option("--train-embeddings", help="Train the embedding tables too.", rich_help_panel=TRAINING)
    ] = False,
    quant: Rounding = None,
    seed: TrainingSeed = None,
    save_minutes: SaveMinutes = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    threads: Threads = None,
) -> None:
    """Train a BERT classifier on labelled text, dense or pruned, with or without a teacher (needs PyTorch)."""
    from aerogel.train import Options, finetune
    from aerogel.train.texts import read_labelled

    texts, labels = read_labelled(data)
    options = given(
        sparsity=0.0 if sparsity is None else sparsity,  # no pruning unless asked for
        steps=steps,
        minutes=minutes,
        piece_minutes=piece,
        lr=rate(lr),
        stages=stages,
        dropout=dropout,
        batch_tokens=batch_tokens,
        accumulate=accumulate,
        device=device,
        train_embeddings=train_embeddings,
        quant=quant,
        seed=seed,
        save_minutes=save_minutes,
        threads=threads,
    )
    report = finetune(
        source, out, texts, labels, teacher, Options(**options), resume=resume, report=say, overwrite=overwrite
    )
    show(report)

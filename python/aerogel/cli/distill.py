"""aerogel distill."""

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
    Pattern,
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
    text: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Texts, one a line; may be given several times; general: the mix that aerogel carries. "
            "\\[default: general]",
        ),
    ] = None,
    mix: Annotated[
        float | None,
        typer.Option(
            metavar="X", min=0, max=1, help="Which part of the texts is of the general mix, beside files: 0.3."
        ),
    ] = None,
    teacher: Annotated[str | None, typer.Option(metavar="DIR", help="The dense model. \\[default: DIR]")] = None,
    sparsity: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Fraction of weights to remove. \\[default: 0.8]", rich_help_panel=METHOD),
    ] = None,
    pattern: Pattern = None,
    steps: Steps = None,
    minutes: Minutes = None,
    piece: Piece = None,
    lr: Rate = None,
    stages: Stages = None,
    batch_tokens: BatchTokens = None,
    accumulate: Accumulate = None,
    augment: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0,
            max=1,
            help="Which part of the texts is replaced in every epoch by parts of themselves, garbled, or by random words. "
            "\\[default: 0.75 for embeddings, else 0]",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    device: Device = None,
    quant: Rounding = None,
    seed: TrainingSeed = None,
    save_minutes: SaveMinutes = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    threads: Threads = None,
) -> None:
    """Prune a model and let it learn from the dense one, on text without labels (needs PyTorch)."""
    from aerogel.calibrate import GENERAL
    from aerogel.train import Options, distill
    from aerogel.train.texts import open_texts

    options = given(
        sparsity=sparsity,
        pattern=pattern,
        steps=steps,
        minutes=minutes,
        piece_minutes=piece,
        lr=rate(lr),
        stages=stages,
        batch_tokens=batch_tokens,
        accumulate=accumulate,
        augment=augment,
        device=device,
        quant=quant,
        seed=seed,
        save_minutes=save_minutes,
        threads=threads,
    )
    report = distill(
        source,
        out,
        open_texts(text or [Path(GENERAL)], mix),
        teacher,
        Options(**options),
        resume=resume,
        report=say,
        overwrite=overwrite,
    )
    show(report)

"""aerogel finetune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aerogel.cli.distill import given, say, show


def run(source: str, out: Path, data: Path, teacher: str | None, resume: bool, options: dict[str, Any]) -> None:
    from aerogel.train import Options, finetune
    from aerogel.train.texts import read_labelled

    texts, labels = read_labelled(data)
    chosen = given(options)
    chosen.setdefault("sparsity", 0.0)  # no pruning unless asked for
    show(finetune(source, out, texts, labels, teacher, Options(**chosen), resume=resume, report=say))

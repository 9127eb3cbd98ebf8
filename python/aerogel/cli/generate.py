"""aerogel generate."""

from __future__ import annotations

import sys

from aerogel.cli.embed import read_lines
from aerogel.engine.model import load


def run(
    folder: str,
    prompt: str,
    count: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    threads: int | None,
) -> None:
    text = "\n".join(read_lines("-")) if prompt == "-" else prompt
    model = load(folder, threads)
    model.generate(text, count, temperature, top_k, top_p, seed, stream=True)
    sys.stdout.write("\n")

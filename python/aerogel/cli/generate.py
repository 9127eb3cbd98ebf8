"""aerogel generate."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aerogel.cli.console import loaded, read_lines
from aerogel.cli.options import Folder, Quant, Threads


def command(
    folder: Folder,
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", metavar="TEXT", help="The text to continue; - is standard input.")
    ],
    count: Annotated[int, typer.Option("--max-new-tokens", "-n", min=0, help="Tokens to generate.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0: always the most likely token.")] = 0.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Sample from the k most likely tokens.")] = None,
    top_p: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Sample from the most likely tokens whose probabilities add up to p."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed; the same seed gives the same text.")] = None,
    repetition_penalty: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="X",
            help="Above 1: tokens that are there already come less. \\[default: what the model's files say]",
        ),
    ] = None,
    quant: Quant = None,
    threads: Threads = None,
) -> None:
    """Continue a text."""
    text = "\n".join(read_lines("-")) if prompt == "-" else prompt
    loaded(folder, threads, quant=quant).generate(
        text, count, temperature, top_k, top_p, seed, stream=True, repetition_penalty=repetition_penalty
    )
    sys.stdout.write("\n")

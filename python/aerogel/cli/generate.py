"""aerogel generate."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aerogel.cli import sampling
from aerogel.cli.console import loaded, read_lines
from aerogel.cli.options import Folder, KvCache, Quant, Threads


def command(
    folder: Folder,
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", metavar="TEXT", help="The text to continue; - is standard input.")
    ],
    count: Annotated[int, typer.Option("--max-new-tokens", "-n", min=0, help="Tokens to generate.")] = 64,
    chat: Annotated[
        bool, typer.Option("--chat", help="The text is what a user says: put the model's chat template around it.")
    ] = False,
    temperature: sampling.Temperature = 0.0,
    top_k: sampling.TopK = None,
    top_p: sampling.TopP = None,
    min_p: sampling.MinP = None,
    typical_p: sampling.TypicalP = None,
    seed: sampling.Seed = None,
    repetition_penalty: sampling.RepetitionPenalty = None,
    presence_penalty: sampling.PresencePenalty = 0.0,
    frequency_penalty: sampling.FrequencyPenalty = 0.0,
    stop: sampling.Stop = None,
    json_schema: sampling.JsonSchema = None,
    regex: sampling.Regex = None,
    grammar: sampling.Grammar = None,
    lookup: sampling.Lookup = 0,
    draft: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="A smaller model with the same tokens that guesses ahead: the same text, sooner."
        ),
    ] = None,
    quant: Quant = None,
    kv_cache: KvCache = None,
    threads: Threads = None,
) -> None:
    """Continue a text, or answer one with --chat."""
    text = "\n".join(read_lines("-")) if prompt == "-" else prompt
    schema, rules = sampling.schema(json_schema), sampling.file_text(grammar)
    loaded(folder, threads, quant=quant, kv_cache=kv_cache).generate(
        text,
        count,
        temperature,
        top_k,
        top_p,
        seed,
        stream=True,
        repetition_penalty=repetition_penalty,
        chat=chat,
        stop=sampling.stops(stop),
        min_p=min_p,
        typical_p=typical_p,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        json_schema=schema,
        regex=regex,
        grammar=rules,
        lookup=lookup,
        draft=None if draft is None else loaded(draft, threads),
    )
    sys.stdout.write("\n")

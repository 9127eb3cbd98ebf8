"""aerogel chat."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from aerogel.cli import sampling
from aerogel.cli.console import loaded, say, stream_lines
from aerogel.cli.options import Folder, KvCache, Quant, Threads

if TYPE_CHECKING:
    from aerogel.engine.generation.conversation import Conversation

_HELP = "/reset begins anew, /quit (or the end of input) ends, Ctrl-C ends an answer"


def command(
    folder: Folder,
    system: Annotated[
        str | None, typer.Option("--system", "-s", metavar="TEXT", help="What the model is told first.")
    ] = None,
    count: Annotated[int, typer.Option("--max-new-tokens", "-n", min=1, help="The most tokens of an answer.")] = 512,
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
    lookup: sampling.Lookup = 0,
    template: sampling.ChatTemplate = None,
    quant: Quant = None,
    kv_cache: KvCache = None,
    threads: Threads = None,
) -> None:
    """Talk with a model. Without a terminal, each line of standard input is said, and answered on standard output."""
    talk = loaded(folder, threads, quant=quant, kv_cache=kv_cache).conversation(
        system,
        template=sampling.template(template),
        max_new_tokens=count,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        typical_p=typical_p,
        seed=seed,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        stop=sampling.stops(stop),
        lookup=lookup,
    )
    terminal = sys.stdin.isatty()
    if terminal:
        say(_HELP)
    with talk:
        for line in _typed() if terminal else stream_lines("-"):
            words = line.strip()
            if words == "/quit":
                return
            if words == "/reset":
                talk.reset()
            elif words.startswith("/") and " " not in words:
                say(f"{words}: no such command: {_HELP}")
            elif words:
                _answer(talk, line, terminal)


def _typed() -> Iterator[str]:
    """The lines that are typed, until the end of input or Ctrl-C."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (makes input() an editor with a history)
    while True:
        try:
            yield input("> ")
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n")
            return


def _answer(talk: Conversation, line: str, terminal: bool) -> None:
    try:
        with contextlib.closing(talk.stream(line)) as pieces:
            for piece in pieces:
                sys.stdout.write(piece)
                sys.stdout.flush()
    except KeyboardInterrupt:
        if not terminal:
            raise
    sys.stdout.write("\n")
    sys.stdout.flush()

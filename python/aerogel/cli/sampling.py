"""How tokens are chosen: options of the commands that write texts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

SAMPLING, FORM = "Sampling", "Form and end of the text"

Temperature = Annotated[float, typer.Option(min=0, help="0: always the most likely token.", rich_help_panel=SAMPLING)]
TopK = Annotated[
    int | None, typer.Option(min=1, help="Sample from the k most likely tokens.", rich_help_panel=SAMPLING)
]
TopP = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Sample from the most likely tokens whose probabilities add up to p.",
        rich_help_panel=SAMPLING,
    ),
]
MinP = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Sample from tokens at least so likely, relative to the likeliest.",
        rich_help_panel=SAMPLING,
    ),
]
TypicalP = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Sample from the most typical tokens that add up to p.", rich_help_panel=SAMPLING),
]
Seed = Annotated[
    int | None, typer.Option(min=0, help="Random seed; the same seed gives the same text.", rich_help_panel=SAMPLING)
]
RepetitionPenalty = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="X",
        help="Above 1: tokens that are there already come less. \\[default: what the model's files say]",
        rich_help_panel=SAMPLING,
    ),
]
PresencePenalty = Annotated[
    float,
    typer.Option(metavar="X", help="Taken from the logits of tokens that were written.", rich_help_panel=SAMPLING),
]
FrequencyPenalty = Annotated[
    float, typer.Option(metavar="X", help="The same, once for each time.", rich_help_panel=SAMPLING)
]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT", help="Ends the text where it comes; \\n is a line end. Several are fine.", rich_help_panel=FORM
    ),
]
JsonSchema = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|JSON",
        help="The text is JSON of this schema; {}: any. Needs aerogel\\[grammar].",
        rich_help_panel=FORM,
    ),
]
Regex = Annotated[
    str | None, typer.Option(help="The text matches this regular expression as a whole.", rich_help_panel=FORM)
]
Grammar = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The text is of this grammar, in Lark's syntax.", rich_help_panel=FORM),
]
ChatTemplate = Annotated[
    str | None,
    typer.Option(
        "--chat-template",
        metavar="NAME|FILE",
        help="In the place of the model's own: chatml, gemma, llama3, mistral, phi3, zephyr, or a file of Jinja.",
    ),
]
Lookup = Annotated[
    int,
    typer.Option(
        min=0,
        max=64,
        metavar="N",
        help="Guess up to N tokens ahead: the same text, sooner where it repeats.",
    ),
]


def stops(texts: list[str] | None) -> list[str]:
    r"""The stop strings, with \n and \t as the characters they stand for."""
    return [text.replace("\\n", "\n").replace("\\t", "\t") for text in texts or []]


def schema(text: str | None) -> str | None:
    """A schema that was given as JSON, or what is in the file."""
    if text is None or text.lstrip().startswith("{"):
        return text
    return file_text(Path(text))


def file_text(file: Path | None) -> str | None:
    """What is in the file."""
    if file is None:
        return None
    from aerogel._util.reading import read_bytes
    from aerogel._util.text import not_utf8
    from aerogel.errors import DataError

    try:
        return read_bytes(str(file), file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(not_utf8(file, error)) from error


def template(said: str | None) -> str | None:
    """A chat template: the name of one, or what is in the file."""
    # os.path: False, not an error, for a template that is too long for a name. A path without a file is one that is missed.
    if said is None or "{" in said or not (os.path.isfile(said) or os.path.splitext(said)[1] or os.sep in said):
        return said
    return file_text(Path(said))

"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from aerogel.errors import RecipeError

#: Panels of `--help` that several commands have.
METHOD, DATA, TRAINING, FILES = "Pruning and quantization", "Evaluation data", "Training", "Output files"

Folder = Annotated[str, typer.Argument(metavar="DIR", help="A packed model, or any model that aerogel reads.")]
Source = Annotated[str, typer.Argument(help="A local folder or file, or a model id on the Hugging Face hub.")]
Memory = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Memory limit of each layer, as a multiple of its dense form. \\[default: none, the fastest format]",
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", "-t", min=1, help="Worker threads. \\[default: all available cores]")
]
Quant = Annotated[
    str | None,
    typer.Option(
        metavar="SCHEME",
        help="Quantize a float model while it is loaded: int8, int8:g64, int4 (int4:g32:asym), int4:g64, codebook:16 "
        "or bf16. \\[default: weights as the file has them]",
    ),
]
Rerank = Annotated[
    str | None,
    typer.Option(
        metavar="FORM",
        help="Make a language model a reranker, by its logits of yes and no: model (by its own chat template), "
        "qwen3-reranker, bge-reranker-gemma, or a template's file.",
    ),
]
KvCache = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBERS",
        help="As what keys and values are kept: float32, float16 (half of the memory) or int8 (a quarter). "
        "\\[default: float32 for a float32 model, or else float16]",
    ),
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the results as JSON.", rich_help_panel=FILES)
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace what stands in an output's place: a model aerogel wrote, a file that is no input.",
    ),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        help="unstructured, Q:64 (8:64: 8 weights in each 64 columns), N:M (2:4), 1x4, "
        "4x1 or 2x1 (4 or 2 rows share a mask), or both (8:64x4).",
        rich_help_panel=METHOD,
    ),
]

# What a model is scored on: one set, or any number of them.
_STS = typer.Option(
    metavar="FILE",
    help="Rows sentence,sentence,score (csv or tsv): Spearman correlation of cosine similarities.",
    rich_help_panel=DATA,
)
_CLASSIFY = typer.Option(
    metavar="FILE",
    help="Rows sentence<TAB>label or sentence<TAB>sentence<TAB>label: accuracy.",
    rich_help_panel=DATA,
)
_TEXT = typer.Option(
    "--text",
    metavar="FILE",
    help="A text: perplexity; compared with a dense model also the KL divergence from it.",
    rich_help_panel=DATA,
)
Sts = Annotated[Path | None, _STS]
StsFiles = Annotated[list[Path] | None, _STS]
Classify = Annotated[Path | None, _CLASSIFY]
ClassifyFiles = Annotated[list[Path] | None, _CLASSIFY]
TextFile = Annotated[Path | None, _TEXT]
TextFiles = Annotated[list[Path] | None, _TEXT]
AlikeFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--alike",
        metavar="FILE",
        help="Texts without labels: how alike the answers are to the uncompressed model's (cosines, nearest neighbours).",
        rich_help_panel=DATA,
    ),
]
Retrieval = Annotated[
    tuple[Path, Path, Path] | None,
    typer.Option(
        metavar="CORPUS QUERIES QRELS",
        help="BEIR's files (jsonl or tsv, and qrels as tsv): nDCG@10, recall, MRR@10.",
        rich_help_panel=DATA,
    ),
]
Context = Annotated[
    int, typer.Option(min=2, metavar="N", help="With --text: tokens of a window.", rich_help_panel=DATA)
]

# What training shares: each is the option of aerogel.train.Options with its name.
TrainedFolder = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the trained, dense model.")]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of training steps; without --minutes the result is bit-for-bit reproducible.",
        rich_help_panel=TRAINING,
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        help="Training time, pruning not counted; with --steps, whichever ends first.", rich_help_panel=TRAINING
    ),
]
SaveMinutes = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Write the snapshot that --resume goes on from so often, also right after the pruning; 0: never. "
        "\\[default: 5, the first after 1]",
        rich_help_panel=TRAINING,
    ),
]
Piece = Annotated[
    float | None,
    typer.Option(
        "--piece",
        metavar="MINUTES",
        help="Stop after so much training, with a snapshot; --resume trains the next piece. The result is that of one run.",
        rich_help_panel=TRAINING,
    ),
]
Rate = Annotated[
    str | None,
    typer.Option(
        metavar="X|auto", help="Peak learning rate; auto: found by four short trials.", rich_help_panel=TRAINING
    ),
]
BatchTokens = Annotated[int | None, typer.Option(min=1, help="Tokens of a batch.", rich_help_panel=TRAINING)]
Accumulate = Annotated[
    int | None, typer.Option(min=1, help="Batches of a training step. \\[default: 1]", rich_help_panel=TRAINING)
]
Device = Annotated[
    str | None,
    typer.Option(metavar="auto|cpu|cuda[:N]|mps", help="Where to train. \\[default: auto]", rich_help_panel=TRAINING),
]
Stages = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Prune by magnitude in this many stages during training. \\[default: once before it, fitted to the texts]",
        rich_help_panel=METHOD,
    ),
]
Rounding = Annotated[
    str | None,
    typer.Option(
        help="Quantization scheme that the last part of the training simulates; none: no quantization.",
        rich_help_panel=METHOD,
    ),
]
TrainingSeed = Annotated[
    int | None, typer.Option(min=0, help="Random seed of the data order and of dropout.", rich_help_panel=TRAINING)
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the snapshot of an interrupted run.")]


def counts(text: str | None) -> list[int] | None:
    """ "1,16" as [1, 16]."""
    return None if text is None else [_number(word, int, 1, 1 << 20) for word in text.split(",")]


def fractions(text: str | None) -> list[float] | None:
    """ "0.5,0.9" as [0.5, 0.9]."""
    return None if text is None else [_number(word, float, 0, 0.999) for word in text.split(",")]


def _number(word: str, kind: type, least: float, most: float) -> Any:
    try:
        value = kind(word)
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        raise typer.BadParameter(f"expected numbers from {least} to {most} with commas between, got {word!r}")
    return value


def paths_by_name(entries: Sequence[str] | None) -> dict[str, str]:
    """["NAME=PATH"] as {"NAME": "PATH"}."""
    pairs = dict(entry.partition("=")[::2] for entry in entries or [])
    for name, path in pairs.items():
        if not path:
            raise typer.BadParameter(f"expected NAME=PATH, got {name!r}")
    return pairs


def recipe_values(entries: Sequence[str]) -> dict[str, Any]:
    """["structure.ffn=0.5"] as {"structure.ffn": 0.5}: values are YAML.

    Raises:
        RecipeError: there is no =, or what follows is not YAML.
    """
    import yaml

    found = {}
    for text in entries:
        key, equal, value = text.partition("=")
        if not key or not equal:
            raise RecipeError(f"--set: expected KEY=VALUE, got {text!r}")
        try:
            found[key] = yaml.safe_load(value)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise RecipeError(f"--set {key}: expected a value as in YAML, got {value!r}") from error
    return found


def amount(text: str, units: Mapping[str, float], option: str) -> float:
    """ "12MB" in bytes, "2ms" in seconds.

    Raises:
        RecipeError: it is not a positive number with one of `units`.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", text)
    factor = match and {unit.lower(): value for unit, value in units.items()}.get(match[2].lower())
    if not match or not factor or not float(match[1]):
        names = ", ".join(unit for unit in units if unit)
        raise RecipeError(f"{option}: expected a positive number with one of {names}, got {text!r}")
    return float(match[1]) * factor


def at_least_one(**values: Any) -> None:
    """Refuses none of the options that are named by the arguments."""
    if not any(value for value in values.values()):
        raise typer.BadParameter(f"expected one or more of {', '.join(f'--{name}' for name in values)}, got none")

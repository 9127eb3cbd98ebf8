"""The `aerogel` command: arguments, and one line per error. What the commands do is in `aerogel.cli`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="aerogel",
    help="Compressed Transformers on CPUs: prune and quantize a model, then run it faster than the dense one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[str, typer.Argument(metavar="DIR", help="A packed model, or any model that aerogel reads.")]
Memory = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Most bytes that a layer may take, times its dense form. \\[default: speed decides]"
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", "-t", min=1, help="Worker threads. \\[default: the cores that may be used]")
]

Sts = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Rows sentence,sentence,score (csv or tsv): rank correlation of cosines."),
]
Classify = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Rows sentence<TAB>label or sentence<TAB>sentence<TAB>label: accuracy."),
]
TextFile = Annotated[
    Path | None, typer.Option("--text", metavar="FILE", help="A text: perplexity; with --against also KL to dense.")
]
Retrieval = Annotated[
    tuple[Path, Path, Path] | None,
    typer.Option(
        metavar="CORPUS QUERIES QRELS", help="BEIR's files (jsonl or tsv, and qrels as tsv): nDCG@10, recall, MRR@10."
    ),
]
Context = Annotated[int, typer.Option(min=2, metavar="N", help="With --text: tokens of a window.")]


def _version(wanted: bool) -> None:
    if wanted:
        import aerogel

        typer.echo(f"aerogel {aerogel.__version__} ({aerogel.isa()})")
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done, and on which ISA.")] = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error (or set AEROGEL_DEBUG=1).")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and the ISA.")
    ] = False,
) -> None:
    """Options of the program itself."""
    logging.basicConfig(format="aerogel: %(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("aerogel").setLevel(logging.INFO if verbose else logging.WARNING)
    if debug:
        os.environ["AEROGEL_DEBUG"] = "1"


@app.command()
def compress(
    source: Annotated[str, typer.Argument(help="A local folder or file, or a model id on the Hugging Face hub.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the packed model.")],
    sparsity: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Fraction of weights to remove; 0: none. \\[default: 0.8, or what the pattern says]"
        ),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="unstructured, Q:64 (8:64: 8 weights in each 64 columns), N:M (2:4), 1x4 or 2x1.")
    ] = None,
    quant: Annotated[
        str | None, typer.Option(help="int8, int8:g64, int4:g64, int4:g64:asym, codebook:16, bf16 or none (float32).")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="magnitude, wanda, obs, admm. \\[default: admm with calibration texts, else magnitude]"),
    ] = None,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option("--calibrate", "-c", metavar="FILE", help="Texts (.txt .csv .tsv .jsonl) that show what matters."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="How layers share the sparsity: uniform, global, owl, sensitivity.")
    ] = None,
    pack: Annotated[str | None, typer.Option(help="plain, or small: entropy-coded, the smallest file.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="A recipe; the options given besides replace its values.")
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other value of the recipe, such as structure.ffn=0.5."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of what is chosen at random.")] = None,
    size: Annotated[
        str | None, typer.Option("--target-size", metavar="SIZE", help="The least sparsity that fits: 12MB.")
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option("--target-latency", metavar="TIME", help="The least sparsity that is fast enough here: 2ms."),
    ] = None,
    tokens: Annotated[
        int, typer.Option("--seq", "-s", min=1, help="Tokens of the sequence that a latency is of.")
    ] = 128,
    drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop", metavar="X", help="Ever sparser while at most this part of the score is lost: 0.01."
        ),
    ] = None,
    sts: Sts = None,
    classify: Classify = None,
    text: TextFile = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a page about the result, index.html.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report of every tensor as JSON.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Prune and quantize a model into a packed model.

    With data (--sts, --classify or --text) the result is scored beside the source.
    """
    from aerogel.cli.compress import Goal, run

    if sum(value is not None for value in (size, latency, drop)) > 1:
        raise typer.BadParameter("expected one of --target-size, --target-latency and --max-drop")
    scored = [value for value in (sts, classify, text) if value is not None]
    if len(scored) > 1 or (drop is not None and not scored):
        raise typer.BadParameter("expected one of --sts, --classify and --text")
    given = {"sparsity": sparsity, "pattern": pattern, "quant": quant, "method": method, "budget": budget, "pack": pack}
    given |= {"calibrate": calibrate, "recipe": recipe, "seed": seed}
    goal = Goal(size, latency, tokens, drop, sts, classify, text)
    run(source, out, given, values or [], goal, report, json_file, threads)


@app.command()
def export(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A new folder for the dense model.")],
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    shard_mb: Annotated[
        int | None, typer.Option("--shard-mb", min=1, help="Most MB of one file. \\[default: one file]")
    ] = None,
) -> None:
    """Write a model as a plain dense folder that transformers loads, zeros in place."""
    from aerogel.cli.export import run

    run(folder, out, dtype, None if shard_mb is None else shard_mb * 10**6)


@app.command()
def info(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Show a model layer by layer: shape, sparsity, kernel formats, bits per weight."""
    from aerogel.cli.info import run

    run(folder, as_json, memory, threads)


@app.command()
def embed(
    folder: Folder,
    file: Annotated[str, typer.Argument(metavar="[FILE|-]", help="Texts, one a line; - is standard input.")] = "-",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line: text and embedding.")] = False,
    npy: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Write a float32 [n, hidden] .npy file instead of printing."),
    ] = None,
    threads: Threads = None,
) -> None:
    """Embed texts. Prints the numbers of one text a line unless told otherwise."""
    from aerogel.cli.embed import run

    if as_json and npy is not None:
        raise typer.BadParameter("--json and --npy exclude each other")
    run(folder, file, as_json, npy, threads)


@app.command()
def generate(
    folder: Folder,
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", metavar="TEXT", help="The text to continue; - is standard input.")
    ],
    count: Annotated[int, typer.Option("--max-new-tokens", "-n", min=0, help="Tokens to generate.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0: the most likely token always.")] = 0.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Choose among the k most likely tokens.")] = None,
    top_p: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Choose among the tokens that make up probability p."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Repeat the same choices.")] = None,
    threads: Threads = None,
) -> None:
    """Continue a text."""
    from aerogel.cli.generate import run

    run(folder, prompt, count, temperature, top_k, top_p, seed, threads)


def _counts(text: str | None) -> list[int] | None:
    """ "1,16" as [1, 16]."""
    return None if text is None else [_number(word, int, 1, 1 << 20) for word in text.split(",")]


def _fractions(text: str | None) -> list[float] | None:
    return None if text is None else [_number(word, float, 0, 0.999) for word in text.split(",")]


def _number(word: str, kind: type, least: float, most: float) -> Any:
    try:
        value = kind(word)
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        raise typer.BadParameter(f"expected numbers from {least} to {most} with commas between, got {word!r}")
    return value


def _pythons(entries: list[str] | None) -> dict[str, str]:
    pairs = dict(entry.partition("=")[::2] for entry in entries or [])
    for name, path in pairs.items():
        if not path:
            raise typer.BadParameter(f"expected NAME=PATH, got {name!r}")
    return pairs


@app.command()
def bench(
    target: Annotated[
        str | None,
        typer.Argument(metavar="DIR|NxK", help="A packed model, any model that aerogel reads, or a layer: 768x768."),
    ] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", "-b", metavar="LIST", help="Encoder: sequences, such as 1,16.")
    ] = None,
    seq: Annotated[
        str | None, typer.Option("--seq", "-s", metavar="LIST", help="Encoder: tokens each; with NxK: tokens.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", "-p", metavar="LIST", help="Language model: tokens of a prompt. \\[default: 128]"),
    ] = None,
    new: Annotated[
        str | None,
        typer.Option("--new", "-n", metavar="LIST", help="Language model: tokens generated. \\[default: 32]"),
    ] = None,
    sparsity: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="With NxK: fractions of weights to remove. \\[default: 0.5,0.8,0.9]"),
    ] = None,
    dense: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE", help="The uncompressed model to compare with. \\[default: DIR's weights, unpacked]"
        ),
    ] = None,
    peers: Annotated[
        str,
        typer.Option(metavar="none|auto|NAME,...", help="Other engines; NAME or NAME:int8. auto: the installed ones."),
    ] = "auto",
    python: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="The interpreter of another environment that has peer NAME."),
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", "-r", min=1, help="Turns of everyone in each case.")] = 7,
    threads: Annotated[
        int | None,
        typer.Option("--threads", "-t", min=1, help="Threads of everyone. \\[default: the cores that may be used]"),
    ] = None,
    limits: Annotated[bool, typer.Option("--limits", help="Only measure what this machine can do at most.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the figures as CSV.")] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Plot the speed-ups (needs matplotlib).")
    ] = None,
) -> None:
    """Measure a model or one layer: dense fp32, dense int8 and sparse side by side, and the peers that are installed."""
    from aerogel.cli.bench import Options, run, show_limits

    if limits:
        show_limits(threads)
        return
    if target is None:
        raise typer.BadParameter("expected a model's folder, or a shape such as 768x768", param_hint="DIR|NxK")
    options = Options(
        dense=dense,
        sparsities=_fractions(sparsity),
        batches=_counts(batch),
        lengths=_counts(seq),
        prompts=_counts(prompt),
        news=_counts(new),
        threads=threads,
        rounds=rounds,
        peers=peers,
        pythons=_pythons(python),
        json_file=json_file,
        csv_file=csv_file,
        plot_file=plot_file,
    )
    run(target, options)


@app.command()
def explain(
    folder: Folder,
    batch: Annotated[int, typer.Option("--batch", "-b", min=1, help="Sequences.")] = 1,
    tokens: Annotated[
        int, typer.Option("--seq", "-s", min=1, help="Tokens of each; 1 shows a step of decoding.")
    ] = 128,
    memory: Memory = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write it all as JSON.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw time and sparsity of each layer (needs matplotlib).")
    ] = None,
    threads: Threads = None,
) -> None:
    """Say why a model is as fast as it is, layer by layer, and what would make it faster."""
    from aerogel.cli.explain import run

    run(folder, batch, tokens, memory, json_file, plot, threads)


@app.command("eval")
def evaluate(
    folder: Folder,
    sts: Sts = None,
    classify: Classify = None,
    text: TextFile = None,
    retrieval: Retrieval = None,
    context: Context = 512,
    against: Annotated[
        str | None, typer.Option(metavar="DENSE", help="The uncompressed model: what of its score is kept.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write it all as JSON.")] = None,
    threads: Threads = None,
) -> None:
    """Measure accuracy: one of --sts, --classify, --text and --retrieval, with 95 % confidence intervals."""
    from aerogel.cli.eval import chosen_task, run

    _exactly_one(sts=sts, classify=classify, text=text, retrieval=retrieval)
    run(folder, chosen_task(sts, classify, text, retrieval, context), against, json_file, threads)


@app.command("sweep")
def sweep_grid(
    source: Annotated[str, typer.Argument(help="A local folder or file, or a model id on the Hugging Face hub.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for results, page and models.")],
    grid: Annotated[
        str,
        typer.Option(
            metavar="KEY=VALUE,... ...",
            help='Options of compress with their values: "sparsity=0.5,0.8 quant=int8,bf16 pattern=unstructured,8:64".',
        ),
    ],
    sts: Sts = None,
    classify: Classify = None,
    text: TextFile = None,
    retrieval: Retrieval = None,
    context: Context = 512,
    tokens: Annotated[
        int, typer.Option("--seq", "-s", min=1, help="Encoder: tokens of the sequence that is timed.")
    ] = 128,
    rounds: Annotated[int, typer.Option("--rounds", "-r", min=1, help="Turns of every model when timed.")] = 7,
    keep: Annotated[
        str, typer.Option(metavar="best|all", help="Which models stay: those on a Pareto front, or all.")
    ] = "best",
    threads: Threads = None,
) -> None:
    """Compress in every way that a grid says, measure each, and draw accuracy against size and time.

    A sweep that was broken off goes on where it was.
    """
    from aerogel.cli.eval import chosen_task
    from aerogel.cli.sweep import run

    _exactly_one(sts=sts, classify=classify, text=text, retrieval=retrieval)
    run(source, out, grid, chosen_task(sts, classify, text, retrieval, context), tokens, rounds, keep, threads)


def _exactly_one(**tasks: Any) -> None:
    given = [f"--{name}" for name, value in tasks.items() if value is not None]
    if len(given) != 1:
        names = ", ".join(f"--{name}" for name in tasks)
        raise typer.BadParameter(f"expected one of {names}, got {' and '.join(given) or 'none'}")


# What `distill` and `finetune` share: each is the option of aerogel.train.Options with its name.
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the trained, dense model.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Train so many steps: can be repeated to the bit.")]
Minutes = Annotated[float | None, typer.Option(help="Train so long.")]
Rate = Annotated[float | None, typer.Option(help="Highest learning rate.")]
Stages = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Prune by magnitude in so many stages while it learns. \\[default: once before, fitted to the texts]",
    ),
]
Rounding = Annotated[str | None, typer.Option(help="Scheme whose rounding the end of the training sees; none: none.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Of the order of the data, and of dropout.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the snapshot of an interrupted run.")]


@app.command()
def distill(
    source: Folder,
    out: Out,
    text: Annotated[list[Path], typer.Option(metavar="FILE", help="Texts, one a line; may be given several times.")],
    teacher: Annotated[str | None, typer.Option(metavar="DIR", help="The dense model. \\[default: DIR]")] = None,
    sparsity: Annotated[float | None, typer.Option(min=0, max=1, help="\\[default: 0.8]")] = None,
    pattern: Annotated[str | None, typer.Option(help="unstructured, Q:64, N:M, 1x4 or 2x1.")] = None,
    steps: Steps = None,
    minutes: Minutes = None,
    lr: Rate = None,
    stages: Stages = None,
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a step.")] = None,
    quant: Rounding = None,
    seed: Seed = None,
    resume: Resume = False,
    threads: Threads = None,
) -> None:
    """Prune a model and let it learn from the dense one, on text without labels (needs PyTorch)."""
    from aerogel.cli.distill import run

    options = {"sparsity": sparsity, "pattern": pattern, "steps": steps, "minutes": minutes, "lr": lr}
    options |= {"stages": stages, "batch_tokens": batch_tokens, "quant": quant, "seed": seed, "threads": threads}
    run(source, out, text, teacher, resume, options)


@app.command()
def finetune(
    source: Folder,
    out: Out,
    data: Annotated[Path, typer.Option(metavar="FILE", help="Lines of text, a tab, and a label from 0.")],
    teacher: Annotated[str | None, typer.Option(metavar="DIR", help="A classifier to learn from besides.")] = None,
    sparsity: Annotated[float | None, typer.Option(min=0, max=1, help="\\[default: the zeros that are there]")] = None,
    steps: Steps = None,
    minutes: Minutes = None,
    lr: Rate = None,
    stages: Stages = None,
    dropout: Annotated[float | None, typer.Option(min=0, max=0.99, help="Of the student's hidden states.")] = None,
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a step.")] = None,
    train_embeddings: Annotated[bool, typer.Option("--train-embeddings", help="Train them too.")] = False,
    quant: Rounding = None,
    seed: Seed = None,
    resume: Resume = False,
    threads: Threads = None,
) -> None:
    """Train a BERT classifier on labelled text, dense or pruned, with or without a teacher (needs PyTorch)."""
    from aerogel.cli.finetune import run

    options = {"sparsity": sparsity, "steps": steps, "minutes": minutes, "lr": lr, "stages": stages, "seed": seed}
    options |= {"dropout": dropout, "batch_tokens": batch_tokens, "quant": quant, "threads": threads}
    run(source, out, data, teacher, resume, options | {"train_embeddings": train_embeddings})


@app.command()
def demo(
    model: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="An embedding model to use. \\[default: all-MiniLM-L6-v2, downloaded]"),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON.")] = None,
    threads: Threads = None,
) -> None:
    """Compress a sentence embedding model, search with it, and compare it with its dense forms."""
    from aerogel.cli.demo import run

    run(model, json_file, threads)


def main() -> None:
    """The console script: errors are one line on stderr and exit code 1."""
    from aerogel.errors import AerogelError

    try:
        app()
    except (AerogelError, OSError, MemoryError) as error:
        if isinstance(error, BrokenPipeError):  # `aerogel embed ... | head`: nobody reads any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        if os.environ.get("AEROGEL_DEBUG", "0") not in ("", "0"):
            raise
        sys.stderr.write(f"aerogel: {str(error) or 'not enough memory'}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Command lines with some of their words replaced; without `bench` and `demo`, which measure and download for minutes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from typer.testing import CliRunner

from aerogel.cli.app import app

from .world import World

Run = tuple[str, Callable[..., Any], dict[str, Any], str]

#: What a shell can hand over: no NUL, and bytes that are no UTF-8 as lone surrogates.
WORDS = [
    "",
    " ",
    "x",
    "-1",
    "0",
    "1",
    "2",
    "nan",
    "inf",
    "1e999",
    "-inf",
    "9" * 30,
    "0x10",
    "١",
    "true",
    "--help",
    "--",
    "-",
    "é",
    "\udcff",
    "a\udc80b",
]
WORDS += [
    "a" * 300,
    "a/" * 600,
    "~nosuchuser",
    "../nothing/here",
    "8:64",
    "1x4",
    "int8",
    "int4:g64",
    "codebook:999",
    "unstructured",
    "admm",
    "owl",
]
WORDS += [
    "sparsity=0.5",
    "sparsity=",
    "=",
    "dense",
    "csr_f32",
    "[bold]",
    "{}",
    "%s",
    "size=1MB",
    "1MB",
    "10%",
    "layers.*=0.5",
    "cls",
    "float16",
]
SMALL = [word for word in WORDS if not word.strip("-").isdigit() or len(word) < 3]


def _lines(w: World) -> dict[str, list[str]]:
    bert, packed, out = str(w.bert), str(w.packed), str(w.root / "out" / "model")
    root = str(w.root)
    train = ["--steps", "1", "--out", out, "--threads", "1", "--sparsity", "0.5", "--batch-tokens", "32", "--seed", "1"]
    return {
        "info": ["info", bert],
        "embed": [
            "embed",
            bert,
            f"{root}/texts.txt",
            "--npy",
            f"{root}/out/x.npy",
            "--pooling",
            "mean",
            "--threads",
            "1",
        ],
        "generate": [
            "generate",
            str(w.llama),
            "the cat",
            "--max-new-tokens",
            "2",
            "--temperature",
            "0.5",
            "--top-k",
            "2",
            "--seed",
            "1",
            "--quant",
            "int8",
        ],
        "chat": ["chat", str(w.llama), "--system", "the cat", "--max-new-tokens", "2", "--min-p", "0.1", "--stop", "a"],
        "compress": [
            "compress",
            bert,
            "-o",
            out,
            "--sparsity",
            "0.5",
            "--method",
            "magnitude",
            "--quant",
            "int8",
            "--threads",
            "1",
        ],
        "compress recipe": [
            "compress",
            bert,
            "-o",
            out,
            "--recipe",
            f"{root}/recipe.yaml",
            "--method",
            "magnitude",
            "--pattern",
            "1x4",
        ],
        "export": ["export", packed, "-o", out, "--dtype", "float16"],
        "eval": ["eval", bert, "--sts", f"{root}/sts.csv", "--against", packed, "--json", f"{root}/out/x.json"],
        "eval text": ["eval", str(w.llama), "--text", f"{root}/texts.txt", "--context", "8"],
        "explain": ["explain", packed, "--batch", "1", "--tokens", "4", "--threads", "1"],
        "sweep": ["sweep", bert, "-o", out, "--grid", "sparsity=0.5", "--sts", f"{root}/sts.csv", "--threads", "1"],
        "distill": ["distill", bert, "--texts", f"{root}/texts.txt", *train],
        "finetune": ["finetune", str(w.classifier), "--data", f"{root}/labels.tsv", *train],
        "program": ["--version"],
    }


def command_runs(world: World, seed: int, only: str | None = None) -> Iterator[Run]:
    """Command lines, without end."""
    lines = _lines(world)
    (world.root / "labels.tsv").write_text("the cat\t0\na dog\t1\n")
    names = [name for name in lines for _ in range(1 if name in ("sweep", "distill", "finetune") else 6)]
    fifo = str(world.scratch / "fifo")
    others = ("folder", "empty", "noise.bin", "nothing/here", "empty/inside")
    special = [fifo, *(str(world.scratch / name) for name in others)]
    number = 0
    while True:
        number += 1
        rng = random.Random(f"commands/{seed}/{number}")
        name = only or rng.choice(names)
        words = list(lines[name])
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
            at = rng.randrange(1, len(words) + 1)
            edit = rng.random()
            known = SMALL if name in ("explain", "sweep", "distill", "finetune") else WORDS
            word = rng.choice(special) if rng.random() < 0.3 else rng.choice(known)
            if edit < 0.7 and at < len(words):
                words[at] = word
            elif edit < 0.85 and at < len(words):
                del words[at]
            else:
                words.insert(at, word)
        # A pipe where texts are read or results written waits for whoever is at its other end, as in any filter.
        words[2:] = ["-" if word == fifo else word for word in words[2:]]
        world.out()
        yield f"aerogel {name}", lambda words=words, **_: _invoke(words), {"words": words}, f"{seed}/{number}"


def _invoke(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    error = result.exception
    # The console script says of those what they say.
    if error is not None and not isinstance(error, (SystemExit, OSError)):
        raise error

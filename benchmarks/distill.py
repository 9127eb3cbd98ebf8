"""Distillation on this machine, scored: what a budget of minutes buys, and which recipe buys most.

    python benchmarks/distill.py MODEL -o OUT --text train.csv train.tsv text.txt --minutes 60 --sparsity 0.8 --stsb dev.csv
    python benchmarks/distill.py CLASSIFIER -o OUT --text ... --minutes 60 --sparsity 0.9 --classify dev.tsv
    python benchmarks/distill.py CLASSIFIER -o OUT --labelled train.tsv --minutes 15 --sparsity 0.8 --classify dev.tsv
    python benchmarks/distill.py MODEL -o OUT --text ... --steps 300 --probe lr=5e-4 lr=2e-3 "stages=1 prune_until=0"

Texts: the first two columns of a .csv, the first of a .tsv, lines of anything else (long ones cut into sentences). Every
30th text is held out; the mean cosine of the student's outputs to the dense ones on these is the guide, before and after
packing to int8. The scores are those of the packed model in aerogel, beside those of the dense one in float32. `--probe`
runs several recipes one after the other, with the same steps, and ranks them; PAIRS are fields of aerogel.train.Options.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np

import accuracy
import aerogel
from aerogel.prune import METHODS, parse_pattern
from aerogel.train import Options, distill, finetune
from aerogel.train.pruners import Calibrated, by_magnitude
from aerogel.train.texts import read_labelled, read_texts

HELD_OUT = 30


def texts_of(files: list[Path]) -> list[str]:
    texts: dict[str, None] = {}
    for file in files:
        if file.suffix == ".csv":
            with open(file, newline="", encoding="utf-8") as rows:
                texts.update((text.strip(), None) for row in csv.reader(rows) for text in row[:2] if text.strip())
        elif file.suffix == ".tsv":
            texts.update(dict.fromkeys(read_labelled(file)[0]))
        else:
            texts.update(dict.fromkeys(read_texts([file])))
    return list(texts)


def pairs_of(words: str) -> dict[str, object]:
    """ "lr=1e-3 stages=4" as the values of Options."""
    kinds = {field.name: field.type for field in dataclasses.fields(Options)}
    values: dict[str, object] = {}
    for word in words.split():
        name, equals, text = word.partition("=")
        if name not in kinds or not equals:
            raise SystemExit(f"expected NAME=VALUE with a field of Options, got {word!r}")
        if text.lower() in ("none", "true", "false"):
            values[name] = {"none": None, "true": True, "false": False}[text.lower()]
        else:
            kind = str(kinds[name]).split(" ")[0]
            values[name] = {"int": int, "float": float}.get(kind, str)(text)
    return values


def outputs(folder: Path, texts: list[str], threads: int | None) -> np.ndarray:
    model = aerogel.load(folder, threads=threads)
    return model.encode(texts) if "embedding" in model.outputs else model.scores(texts)


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)).mean())


def score(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    found: dict[str, float] = {}
    model = aerogel.load(folder, threads=options.threads)
    if options.stsb:
        found["spearman"] = accuracy.stsb_spearman(model.encode, options.stsb)
    if options.classify:
        texts, labels = read_labelled(options.classify)
        found["accuracy"] = float((model.scores(texts).argmax(1) == np.asarray(labels)).mean())
    return found


def one(options: argparse.Namespace, pairs: dict[str, object], texts: list[str], held: list[str], dense: np.ndarray):
    """One run: (mean cosine on held-out texts in float32, the same in int8, scores in int8)."""
    chosen = Options(
        **{
            "steps": options.steps,
            "minutes": options.minutes,
            "sparsity": options.sparsity,
            "pattern": options.pattern,
            "threads": options.threads,
            "log_seconds": 30.0,
            **pairs,
        }
    )
    pattern = parse_pattern(chosen.pattern, chosen.sparsity)
    prune = None
    if options.pruner != "once":
        prune = (
            by_magnitude(pattern)
            if options.pruner == "magnitude"
            else Calibrated(METHODS[options.pruner].function, pattern)
        )
    start = time.monotonic()
    common = {"teacher": options.teacher, "options": chosen, "prune": prune, "resume": options.resume, "report": say}
    common["overwrite"] = True  # of several probes the last one stays
    if options.labelled:
        done = finetune(options.model, options.out, *read_labelled(options.labelled), **common)
    else:
        done = distill(options.model, options.out, texts, **common)
    say(f"{done.steps} steps, {done.tokens} tokens, {(time.monotonic() - start) / 60:.1f} min, {done.losses}")
    packed = options.out.with_name(options.out.name + "-int8")
    aerogel.compress(options.out, packed, sparsity=0, overwrite=True)
    cosine = [mean_cosine(dense, outputs(folder, held, options.threads)) for folder in (options.out, packed)]
    return *cosine, score(packed, options)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the dense model; with --teacher the student")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--text", type=Path, nargs="+", default=[])
    parser.add_argument("--labelled", type=Path, help="train on labels too: lines of text, tab, label")
    parser.add_argument("--stsb", type=Path)
    parser.add_argument("--classify", type=Path)
    parser.add_argument("--sparsity", type=float)
    parser.add_argument("--pattern", default="unstructured")
    parser.add_argument("--pruner", default="once", choices=["once", *sorted(METHODS)], help="before, or in stages")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--set", default="", metavar="PAIRS", help="of every run")
    parser.add_argument("--probe", nargs="+", metavar="PAIRS", help="of one run each")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if not options.text and not options.labelled:
        parser.error("give --text or --labelled")
    texts = texts_of([*options.text, *([options.labelled] if options.labelled else [])])
    held = texts[::HELD_OUT]
    texts = [text for i, text in enumerate(texts) if i % HELD_OUT]
    reference = options.teacher or options.model
    dense = outputs(reference, held, options.threads)
    base = score(reference, options)
    print(f"dense float32: {base}")
    results = []
    for words in options.probe or [""]:
        result = one(options, {**pairs_of(options.set), **pairs_of(words)}, texts, held, dense)
        results.append((result, words))
        kept = {name: f"{value:.5f} ({value / base[name]:.2%} kept)" for name, value in result[2].items()}
        print(f"cosine {result[0]:.5f}, int8 {result[1]:.5f}  {kept}  {words}", flush=True)
    if len(results) > 1:
        print("best first: " + "; ".join(words for _, words in sorted(results, key=lambda r: -r[0][1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())

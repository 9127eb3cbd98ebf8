"""Runs all that the claims rest on and writes docs/results/CPU.md with its plots. Under 20 minutes on a quiet machine.

    export AEROGEL_MINILM=folder AEROGEL_SMOLLM2=file.gguf
    python benchmarks/results.py [--name zen3] [--calibrate train.csv] [--sts dev.csv] [--quick] [--out docs]

Every number on that page comes from this run, and the main ones go into docs/results/CPU.json, from which docs/results.md
compares all CPUs that were met (results_index.py). Without the two models their sections are left out, and the page says so.
Without calibration texts the encoder is pruned by magnitude, which costs it its sense: its speed is the same.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import aerogel._core as core
import csr
import layers
import results_index
import smooth
from aerogel import load
from aerogel.bench import Peers, Variant, bench_model, bench_variants, dense_variants, machine, plot
from aerogel.bench.limits import limits_line
from aerogel.bench.peers import PEERS
from aerogel.bench.tables import cases, markdown, notes
from aerogel.compression import compress
from aerogel.evaluate.sts import Sts
from conftest import PATTERNS

SHAPES = ((384, 384), (1536, 384), (768, 768), (3072, 768))
SPARSITIES = ("0.5", "0.6", "0.7", "0.8", "0.9", "0.95")
SHARED = ("0.5", "0.8", "0.9")
TOKENS = (1, 16, 128)


def _unstructured() -> list[str]:
    """The formats of int8 weights for zeros anywhere: grouped_q8 is for scales of groups, rows for masks that rows share."""
    others = ("dense", "grouped", "rows", "gathered_rows")
    found = [name for name in layers.formats() if name.endswith("_q8") and not name.startswith(others)]
    return sorted(found, key=lambda name: name != "gathered_q8")


def patterns(quick: bool) -> str:
    """Speed-up over dense int8 where rows share a mask, and of blocks of 1x4, beside zeros anywhere, one thread."""
    random = np.random.default_rng(1)
    there = layers.formats()
    shared = [name for name in ("rows_q8", "gathered_rows_q8") if name in there]
    blocks = [name for name in ("blocks_q8",) if name in there]
    rows = [("any", "", _unstructured()), ("2x1", "2x1@", shared), ("4x1", "4x1@", shared), ("1x4", "1x4@", blocks)]
    rows = [row for row in rows if row[2]]
    if len(rows) == 1:
        return "No kernel for them on this instruction set."
    lines = [
        "| N x K, tokens | zeros | " + " | ".join(f"{float(s):.0%}" for s in SHARED) + " |",
        "|---|---|" + "--:|" * len(SHARED),
    ]
    for n, k in SHAPES[2:3] if quick else SHAPES[2:]:
        for m in (16, 128):
            x = random.standard_normal((m, k)).astype(np.float32)
            dense = layers.gaussian(n, k)
            kinds = [("dense_q8", dense)]
            for _, pattern, names in rows:
                kinds += [(name, layers.pruned(dense, pattern + s)) for s in SHARED for name in names]
            packed = [layers.pack(w, name) for name, w in kinds]
            for weight, (_, w) in zip(packed, kinds, strict=True):
                layers.check(weight, w, x, core.linear(weight, x))
            base, *times = layers.microseconds(
                [lambda w=w, x=x: core.linear(w, x) for w in packed], 1.0 if quick else 10.0
            )
            for label, _, names in rows:
                best = [min(times[i * len(names) : (i + 1) * len(names)]) for i in range(len(SHARED))]
                del times[: len(SHARED) * len(names)]
                lines.append(f"| {n}x{k}, {m} | {label} | " + " | ".join(f"{base / t:.2f}" for t in best) + " |")
    return "\n".join(lines)


def sweep(quick: bool, folder: Path, best: dict[str, Any]) -> str:
    """Speed-up of the sparse kernels over the dense int8 one, one thread, by sparsity; `best` takes the fastest formats'."""
    random = np.random.default_rng(0)
    parts = []
    sparse = _unstructured()
    patterns = SPARSITIES if quick else SPARSITIES + PATTERNS
    for m in TOKENS:
        curves: dict[str, tuple[list[float], list[float]]] = {}
        lines = [
            f"| N x K, {m} tokens | format | " + " | ".join(patterns) + " |",
            "|---|---" + "|--:" * len(patterns) + "|",
        ]
        for n, k in SHAPES[:2] if quick else SHAPES:
            x = random.standard_normal((m, k)).astype(np.float32)
            weights = layers.real(n, k)
            origin = "random" if weights is None else "real"
            weights = layers.gaussian(n, k) if weights is None else weights
            kinds = [("dense_q8", weights)]
            kinds += [(name, layers.pruned(weights, p)) for name in sparse for p in patterns]
            packed = [layers.pack(w, name) for name, w in kinds]
            for weight, (_, w) in zip(packed, kinds):
                layers.check(weight, w, x, core.linear(weight, x))
            runs = [lambda w=w, x=x: core.linear(w, x) for w in packed]
            dense, *times = layers.microseconds(runs, 0.5 if quick else 6.0)
            for i, name in enumerate(sparse):
                gains = [dense / t for t in times[i * len(patterns) : (i + 1) * len(patterns)]]
                lines.append(f"| {n}x{k} ({origin}) | {name} | " + " | ".join(f"{g:.2f}" for g in gains) + " |")
                fastest = best.setdefault(str(m), {}).setdefault(f"{n}x{k}", {})
                for pattern, gain in zip(patterns, gains, strict=True):
                    fastest[pattern] = max(gain, fastest.get(pattern, 0.0))
                share = [100 * float(s) for s in SPARSITIES]
                curves[f"{name} · {n}x{k} ({origin})"] = (share, gains[: len(SPARSITIES)])
        note = plot.caption(machine(1, limits=False), "10th percentile of interleaved calls")
        file = folder / f"speedup-{m}.png"
        plot.lines(
            file,
            f"speed-up over dense int8, {m} tokens",
            "zeros, %",
            "times faster than dense_q8",
            dict(sorted(curves.items(), key=lambda item: sparse.index(item[0].split(" · ")[0]))),
            note,
            one=True,
        )
        parts.append("\n".join(lines) + f"\n\n![speed-up over dense int8, {m} tokens]({folder.name}/{file.name})")
    return "\n\n".join(parts)


def encoder(
    model: Path, options: argparse.Namespace, threads: int, folder: Path, figures: dict[str, Any]
) -> tuple[str, list[str]]:
    """A real encoder, dense and pruned to 80 and 90 %, beside the peers with its dense weights."""
    quick, kept = options.quick, ""
    with tempfile.TemporaryDirectory(prefix="aerogel-results-") as work:
        variants = dense_variants(model, Path(work), threads)
        for sparsity in (0.8, 0.9):
            path = Path(work) / f"sparse-{sparsity:g}"
            how = {"calibrate": str(options.calibrate)} if options.calibrate else {"method": "magnitude"}
            compress(model, path, sparsity=sparsity, threads=threads, **how)
            variants.append(Variant(f"sparse int8 {sparsity:.0%}", str(path)))
        if options.sts:
            kept = accuracy(variants, options, threads)
        batches, lengths = ([1], [16, 128]) if quick else ([1, 16], [16, 128])
        result = bench_variants(
            variants,
            batches=batches,
            lengths=lengths,
            threads=threads,
            rounds=3 if quick else 7,
            peers=Peers(options.peers),
            target=model.name,
            source=model,
        )
    plot.plot(folder / "encoder.png", result)
    figures["encoder"] = medians(result)
    how = (
        f"calibrated with {options.calibrate.name}"
        if options.calibrate
        else "pruned by magnitude: only their speed means anything"
    )
    text = f"The sparse ones are {how}.\n\n{markdown(result)}\n{kept}![side by side]({folder.name}/encoder.png)"
    return text, notes(result)


def accuracy(variants: list[Variant], options: argparse.Namespace, threads: int) -> str:
    """What each variant keeps of the first one's score, as a table."""
    lines = [f"| {options.sts.name} | Spearman | of dense fp32 | mean cosine to it |", "|---|--:|--:|--:|"]
    task = Sts(options.sts)
    dense = task.answer(load(variants[0].path, threads))
    for variant in variants:
        score = task.score(task.answer(load(variant.path, threads)), dense)
        assert score.against is not None
        cosine = score.against.agreement["cosine_mean"].value
        lines.append(f"| {variant.name} | {score.value:.4f} | {score.against.kept.value:.1%} | {cosine:.3f} |")
    return "\n".join(lines) + "\n\n"


def medians(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Milliseconds by case and variant."""
    return {
        case: {
            v["name"]: round(v["latency_ms"][case]["median"], 4) for v in result["variants"] if case in v["latency_ms"]
        }
        for case in cases(result)
    }


def decoder(
    model: Path, options: argparse.Namespace, threads: int, folder: Path, figures: dict[str, Any]
) -> tuple[str, list[str]]:
    """A real language model beside the peers."""
    quick = options.quick
    result: dict[str, Any] = bench_model(
        model,
        prompts=[32 if quick else 128],
        news=[16 if quick else 32],
        threads=threads,
        rounds=3,
        peers=Peers(options.decoder_peers),
    )
    result["target"] = model.name
    plot.plot(folder / "decoder.png", result)
    figures["decoder"] = medians(result)
    return markdown(result) + f"\n![side by side]({folder.name}/decoder.png)", notes(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything, about two minutes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs", metavar="FOLDER")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--peers", default="auto", metavar="NAMES", help="engines beside an encoder, as in aerogel bench"
    )
    parser.add_argument("--decoder-peers", default="auto", metavar="NAMES", help="engines beside a language model")
    parser.add_argument("--name", help="the page's name; the CPU's by default, which virtual machines may hide")
    parser.add_argument("--calibrate", type=Path, metavar="FILE", help="calibration texts for the pruned encoders")
    parser.add_argument("--sts", type=Path, metavar="FILE", help="rows of two sentences and a score: what they keep")
    options = parser.parse_args()
    plot.require()
    here = machine(options.threads)
    name = options.name or re.sub(r"[^a-z0-9]+", "-", here["cpu"].lower()).strip("-")
    page = options.out / "results" / f"{name}.md"
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {key: here[key] for key in ("cpu", "isa", "threads", "when", "aerogel")}
    figures |= {"name": name, "quick": options.quick, "kernels": {}}
    threads = here["threads"]
    names = {peer.distribution: "" for peer in PEERS.values()} | {"transformers": "", "nncf": "", "scipy": ""}
    versions = []
    for package in sorted(names):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    remarks: list[str] = []
    sections = [
        f"# Results: {name}",
        "Written by `benchmarks/results.py`; every number is of one run on one machine. Speed-ups are over aerogel's *dense "
        "int8* of the same shape. What the columns mean: `aerogel bench --help`, [kernels.md](../kernels.md). Other CPUs: "
        "[results.md](../results.md).",
        f"**{here['cpu']}**, {here['isa']}, {threads} threads; {here['when']}; {here['system']}; Python {here['python']}; "
        f"compiler {here['compiler']}; aerogel {here['aerogel']}; {', '.join(versions)}"
        + ("; **a quick run**" if options.quick else "")
        + ".",
        f"At most, measured: {limits_line(here['limits_1'])}"
        + (f" / {limits_line(here['limits'])}." if threads > 1 else "."),
    ]

    def section(title: str, make, variable: str | None = None) -> None:
        if variable is not None and not os.environ.get(variable):
            remarks.append(f"{title}: left out, {variable} is not set")
            return
        start = time.perf_counter()
        made = make()
        text, lines = made if isinstance(made, tuple) else (made, [])
        sections.append(f"## {title}\n\n{text}")
        remarks.extend(f"{title}: {line}" for line in lines)
        print(f"{title}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        write()  # each as soon as it is there: the run is long

    def write() -> None:
        remarked = "## Remarks\n\n" + "\n".join(f"- {line}" for line in remarks)
        parts = sections + ([remarked] if remarks else [])
        page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        page.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")

    def csr_table() -> tuple[str, list[str]]:
        tokens, sparsities = ([1, 16], [0.9]) if options.quick else ([1, 4, 16, 64, 128], [0.8, 0.9])
        result = csr.compare("768x768", sparsities, tokens, 1, 3 if options.quick else 5)
        head, *body = csr.rows(result, sparsities)
        lines = ["| " + " | ".join(head) + " |", "|" + "--:|" * len(head)] + [
            "| " + " | ".join(row) + " |" for row in body
        ]
        return "Microseconds, 768x768, one thread.\n\n" + "\n".join(lines), notes(result)

    def smoothness() -> str:
        found = smooth.smooth(["M"] if options.quick else list(smooth.AXES), 0.5 if options.quick else 3.0, folder)
        images = [
            f"![cost against {smooth.LABELS[a]}]({folder.name}/smooth-{a}.png)"
            for a in (["M"] if options.quick else smooth.AXES)
        ]
        steps = "\n".join(f"- {line}" for line in found) or "No step costs out of proportion."
        return steps + "\n\n" + "\n".join(images)

    section("The kernels, one thread", lambda: sweep(options.quick, folder, figures["kernels"]))
    section("Patterns, one thread", lambda: patterns(options.quick))
    section(
        "An encoder beside other engines",
        lambda: encoder(Path(os.environ["AEROGEL_MINILM"]), options, threads, folder, figures),
        "AEROGEL_MINILM",
    )
    section(
        "A language model beside other engines",
        lambda: decoder(Path(os.environ["AEROGEL_SMOLLM2"]), options, threads, folder, figures),
        "AEROGEL_SMOLLM2",
    )
    section("CSR in float", csr_table)
    section("Cost against size", smoothness)
    write()
    results_index.write(options.out)
    print(page)


if __name__ == "__main__":
    main()

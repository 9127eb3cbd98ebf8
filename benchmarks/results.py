"""Runs all that the claims rest on and writes docs/results.md with its plots. Under 15 minutes on a quiet machine.

    AEROGEL_MINILM=folder AEROGEL_SMOLLM2=file.gguf python benchmarks/results.py [--quick] [--out docs]

Every number on that page comes from this run. Without the two models their sections are left out, and the page says so.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import aerogel._core as core
import csr
import layers
import smooth
from aerogel.bench import Peers, Variant, bench_model, bench_variants, dense_variants, machine, plot
from aerogel.bench.limits import limits_line
from aerogel.bench.peers import PEERS
from aerogel.bench.tables import markdown, notes
from aerogel.compression import compress
from conftest import PATTERNS

SHAPES = ((384, 384), (1536, 384), (768, 768), (3072, 768))
SPARSITIES = ("0.5", "0.6", "0.7", "0.8", "0.9", "0.95")
TOKENS = (1, 16, 128)


def sweep(quick: bool, folder: Path) -> str:
    """Speed-up of the sparse kernels over the dense int8 one, one thread, by sparsity."""
    random = np.random.default_rng(0)
    parts = []
    sparse = [
        name for name in layers.formats() if name == "gathered_q8" or name.endswith("_q8") and "dense" not in name
    ]
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
        parts.append("\n".join(lines) + f"\n\n![speed-up over dense int8, {m} tokens](img/{file.name})")
    return "\n\n".join(parts)


def encoder(model: Path, quick: bool, threads: int, peers: str, folder: Path) -> tuple[str, list[str]]:
    """A real encoder, dense and pruned to 80 and 90 %, beside the peers with its dense weights."""
    with tempfile.TemporaryDirectory(prefix="aerogel-results-") as work:
        variants = dense_variants(model, Path(work), threads)
        for sparsity in (0.8, 0.9):
            path = Path(work) / f"sparse-{sparsity:g}"
            compress(model, path, sparsity=sparsity, method="magnitude", threads=threads)
            variants.append(Variant(f"sparse int8 {sparsity:.0%}", str(path)))
        batches, lengths = ([1], [16, 128]) if quick else ([1, 16], [16, 128])
        result = bench_variants(
            variants,
            batches=batches,
            lengths=lengths,
            threads=threads,
            rounds=3 if quick else 7,
            peers=Peers(peers),
            target=model.name,
            source=model,
        )
    plot.plot(folder / "encoder.png", result)
    return markdown(result) + "\n![side by side](img/encoder.png)", notes(result)


def decoder(model: Path, quick: bool, threads: int, peers: str, folder: Path) -> tuple[str, list[str]]:
    """A real language model beside the peers."""
    result: dict[str, Any] = bench_model(
        model,
        prompts=[32 if quick else 128],
        news=[16 if quick else 32],
        threads=threads,
        rounds=3,
        peers=Peers(peers),
    )
    result["target"] = model.name
    plot.plot(folder / "decoder.png", result)
    return markdown(result) + "\n![side by side](img/decoder.png)", notes(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything, about two minutes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs", metavar="FOLDER")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--peers", default="auto", metavar="NAMES", help="engines beside an encoder, as in aerogel bench"
    )
    parser.add_argument("--decoder-peers", default="auto", metavar="NAMES", help="engines beside a language model")
    options = parser.parse_args()
    plot.require()
    folder = options.out / "img"
    folder.mkdir(parents=True, exist_ok=True)
    here = machine(options.threads)
    threads = here["threads"]
    names = {peer.distribution: name for name, peer in PEERS.items()} | {"transformers": "", "nncf": "", "scipy": ""}
    versions = []
    for name in sorted(names):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    remarks: list[str] = []
    sections = [
        "# Results",
        "Written by `benchmarks/results.py`; every number is of one run on one machine. Speed-ups are over aerogel's *dense "
        "int8* of the same shape. What the columns mean: `aerogel bench --help`, [kernels.md](kernels.md).",
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
        (options.out / "results.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")

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
            f"![cost against {smooth.LABELS[a]}](img/smooth-{a}.png)" for a in (["M"] if options.quick else smooth.AXES)
        ]
        steps = "\n".join(f"- {line}" for line in found) or "No step costs out of proportion."
        return steps + "\n\n" + "\n".join(images)

    section("The kernels, one thread", lambda: sweep(options.quick, folder))
    section(
        "An encoder beside other engines",
        lambda: encoder(Path(os.environ["AEROGEL_MINILM"]), options.quick, threads, options.peers, folder),
        "AEROGEL_MINILM",
    )
    section(
        "A language model beside other engines",
        lambda: decoder(Path(os.environ["AEROGEL_SMOLLM2"]), options.quick, threads, options.decoder_peers, folder),
        "AEROGEL_SMOLLM2",
    )
    section("CSR in float", csr_table)
    section("Cost against size", smoothness)
    write()
    print(options.out / "results.md")


if __name__ == "__main__":
    main()

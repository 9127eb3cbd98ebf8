"""Sentence encoders side by side: aerogel and every installed peer, interleaved on one machine in one run.

    python benchmarks/side_by_side.py MODEL [--aerogel PACKED ...] [--json OUT]

MODEL is a BERT checkpoint folder (model.safetensors, config.json, tokenizer.json). Each output is checked against
transformers in fp32 before a time is printed: the worst cosine of the mean-pooled embeddings must reach the bound of
its precision. Times are medians; tokens/s counts real tokens, never padding. Turns in which other processes used the
cores are left out if enough quiet ones remain; a row marked "loud" had too few, and engines that spin suffer most.

The peers: pip install torch transformers onnx onnxruntime openvino nncf rich
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

import peers
import references
from calibration import exact_batch
from contest import CLOCKS, Machine, Skip, Worker, hold, print_results

CASES = ((1, 16), (1, 128), (16, 128))
# Worst cosine allowed: it catches a wrong result, not a poor one, and the table shows the figure itself. Measured on
# MiniLM without VNNI: ONNX Runtime 0.984, OpenVINO 0.992, PyTorch 0.947.
MIN_COSINE = {"fp32": 0.9999, "int8": 0.95}
OWN_MIN_COSINE = {("torch", "int8"): 0.93}  # its per-channel dynamic int8, the better of its two
# Variants of a peer that can be asked for with +word: the attribute that each one sets.
VARIANTS = {"nospin": ("spinning", False), "static": ("static_shapes", True)}
DEFAULT_PEERS = (
    "onnxruntime:int8,onnxruntime:int8+nospin,openvino:int8,openvino:int8+static,torch:int8,"
    "onnxruntime:fp32,openvino:fp32,torch:fp32"
)


def build_peer(name: str, precision: str, variants: list[str], model: Path, cache: Path, threads: int):
    encoder = peers.load(name).Encoder(threads)
    for variant in variants:
        attribute, value = VARIANTS[variant]
        if not hasattr(encoder, attribute):
            raise ValueError(f"{name} has no variant {variant}")
        setattr(encoder, attribute, value)
    encoder.prepare(model, precision, cache)
    return encoder.run


def build_aerogel(folder: Path, threads: int):
    import aerogel

    model = aerogel.load(str(folder), threads=threads)

    def run(rows: list[np.ndarray]) -> list[np.ndarray]:
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
        states = model.forward(np.concatenate(rows), offsets)
        return [states[a:b] for a, b in zip(offsets, offsets[1:])]

    return run


def build_reference(model: Path):
    bert, _ = references.load_encoder(model)
    return lambda rows: references.hidden_states(bert, rows)


def worst_cosine(states: list[np.ndarray], expected: list[np.ndarray]) -> float:
    got, want = references.mean_pooled(states), references.mean_pooled(expected)
    return float((got * want).sum(axis=1).min())


def enter(options) -> tuple[list[tuple[Worker, float]], list[str]]:
    """Start everyone who can take part: ([(worker, least cosine)], [why the others cannot])."""
    wanted = []
    for entry in options.aerogel:
        folder, _, bound = entry.partition("@")
        bound = float(bound) if bound else MIN_COSINE["int8"]
        wanted.append((f"aerogel:{Path(folder).name}", bound, build_aerogel, (Path(folder), options.threads)))
    for entry in filter(None, options.peers.split(",")):
        name, _, rest = entry.partition(":")
        precision, *variants = rest.split("+")
        peer = peers.PEERS.get(name)
        known = peer is not None and peer.kind == "encoder" and precision in peer.precisions
        if not known or not set(variants) <= set(VARIANTS):
            raise SystemExit(
                f"{entry}: expected name:precision[+variant], as in {DEFAULT_PEERS}; variants: {', '.join(VARIANTS)}"
            )
        arguments = (name, precision, variants, options.model, options.cache, options.threads)
        bound = OWN_MIN_COSINE.get((name, precision), MIN_COSINE[precision])
        wanted.append((entry, bound, build_peer, arguments))

    workers, skipped = [], []
    for name, bound, build, arguments in wanted:
        try:
            environment = thread_environment(options.threads)
            workers.append((Worker(name, build, *arguments, environment=environment), bound))
        except Skip as reason:
            skipped.append(f"{name}: {reason}")
    return workers, skipped


def thread_environment(count: int) -> dict[str, str]:
    """OpenMP runtimes read their thread count when they load. How threads wait is left at each engine's default."""
    return {"OMP_NUM_THREADS": str(count), "TOKENIZERS_PARALLELISM": "false"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="BERT checkpoint folder")
    parser.add_argument(
        "--aerogel",
        action="append",
        default=[],
        metavar="PACKED[@COSINE]",
        help="a packed model folder; @COSINE is its own bound against dense fp32, for pruned models",
    )
    parser.add_argument(
        "--peers",
        default=DEFAULT_PEERS,
        help="name:precision[+static][+nospin], comma separated (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=0.25, help="timed seconds per turn (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=Path(".cache/peers"), help="converted models are kept here")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="cpu: for one thread on a shared machine (default: %(default)s)",
    )
    options = parser.parse_args()
    if options.clock == "cpu" and options.threads != 1:
        parser.error("--clock cpu says something only with --threads 1")

    workers, skipped = enter(options)
    for line in skipped:
        print(f"SKIP {line}", file=sys.stderr)
    reference = Worker("reference", build_reference, options.model, environment=thread_environment(options.threads))
    batches = {case: exact_batch(options.model, *case) for case in CASES}
    expected = {case: reference.output(rows) for case, rows in batches.items()}
    reference.close()

    report = {
        "machine": dataclasses.asdict(Machine.here()),
        "threads": options.threads,
        "clock": options.clock,
        "model": options.model.name,
        "rounds": options.rounds,
        "skipped": skipped,
        "cases": {},
    }
    wrong = []
    for case, rows in batches.items():
        title = f"{case[0]} x {case[1]} tokens"
        cosine = {w.name: worst_cosine(w.output(rows), expected[case]) for w, _ in workers}
        wrong += [
            f"{w.name}, {title}: cosine {cosine[w.name]:.5f}, expected >= {bound}"
            for w, bound in workers
            if not cosine[w.name] >= bound
        ]
        results = hold(
            [w for w, _ in workers], rows, options.rounds, options.seconds, max_calls=200, clock=options.clock
        )
        print_results(
            f"{title}, threads: {options.threads}, {options.clock} time",
            [
                (
                    name,
                    f"{r.median:.2f}",
                    f"{r.minimum:.2f}",
                    f"{r.ratio_to_first:.2f}",
                    f"{case[0] * case[1] / r.median * 1e3:,.0f}",
                    f"{cosine[name]:.4f}",
                    f"{r.quiet_turns}/{r.turns}" + ("" if r.only_quiet else " loud"),
                )
                for name, r in results.items()
            ],
            ["engine", "median ms", "min ms", "x first", "tokens/s", "cosine", "quiet turns"],
        )
        report["cases"][f"{case[0]}x{case[1]}"] = {
            name: dataclasses.asdict(r) | {"worst_cosine": cosine[name]} for name, r in results.items()
        }
    for worker, _ in workers:
        worker.close()
    report["wrong"] = wrong
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    for line in wrong:
        print(f"WRONG {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

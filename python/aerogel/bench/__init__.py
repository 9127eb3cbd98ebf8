"""Measuring a model, or one linear layer, beside its dense forms and other engines, all in one interleaved run.

    bench_model("packed-model", peers="auto")
    bench_linear(768, 768, sparsities=[0.8, 0.9])

Both return plain values, for `report` and `plot`. What a figure means: times are medians over rounds in which everyone
takes a turn (`run`), with the machine watched for noise (`noise`); speed-ups are over aerogel's dense int8; shares are
of what the machine was measured to do (`limits`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aerogel._util.progress import Progress
from aerogel.architectures import architecture_of
from aerogel.bench import noise
from aerogel.bench.limits import machine, rates
from aerogel.bench.noise import Turn
from aerogel.bench.run import EngineError, Worker, interleave, speedup, summary
from aerogel.bench.variants import (
    MIN_COSINE,
    Contestant,
    Peers,
    Variant,
    default_threads,
    dense_variants,
    kind_of,
    linear_contestants,
    model_variants,
    own_contestants,
    peer_contestants,
    sentences,
    text_ids,
)
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import AerogelError

__all__ = [
    "Peers",
    "Variant",
    "bench_linear",
    "bench_model",
    "bench_variants",
    "dense_variants",
    "machine",
    "sentences",
]

ROUNDS = 7
#: (sequences, tokens each) of an encoder unless told otherwise; tokens of a linear layer; tokens of a language model.
ENCODER_CASES = ((1, 16), (1, 128), (16, 128))
LINEAR_TOKENS = (1, 16, 128)
PROMPT, NEW = (128,), (32,)
BASELINE = "dense int8"


def bench_model(
    folder: str | os.PathLike[str],
    dense: str | os.PathLike[str] | None = None,
    *,
    batches: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    prompts: Sequence[int] | None = None,
    news: Sequence[int] | None = None,
    threads: int | None = None,
    rounds: int = ROUNDS,
    peers: str | Peers = "none",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures a model beside dense fp32 and dense int8.

    Args:
        folder: a packed model, or any checkpoint (its own zeros are what is skipped then).
        dense: where the dense forms, and the peers' weights, come from; without it they are the model's own weights,
            zeros and all: as fast as any dense model, but the cosine then only shows what int8 does.
        batches, lengths: of an encoder: sequences, and tokens of each; every combination is measured.
        prompts, news: of a language model: tokens of a prompt, and tokens to generate from one token on.
        threads: worker threads of everyone.
        rounds: turns of everyone in each case.
        peers: see `Peers`.
        progress: called as progress(done, total, what).
    """
    workers = default_threads(threads)
    with tempfile.TemporaryDirectory(prefix="aerogel-bench-") as work:
        variants = model_variants(folder, dense, Path(work), threads)
        return bench_variants(
            variants,
            batches=batches,
            lengths=lengths,
            prompts=prompts,
            news=news,
            threads=workers,
            rounds=rounds,
            peers=peers,
            progress=progress,
            target=os.fspath(folder),
            source=open_checkpoint(dense or folder).path,
        )


def bench_variants(
    variants: Sequence[Variant],
    *,
    batches: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    prompts: Sequence[int] | None = None,
    news: Sequence[int] | None = None,
    threads: int | None = None,
    rounds: int = ROUNDS,
    peers: str | Peers = "none",
    progress: Progress | None = None,
    target: str = "",
    source: Path | None = None,
) -> dict[str, Any]:
    """`bench_model` of forms that are there already; the first is dense fp32, and `peers` get its weights."""
    asked = peers if isinstance(peers, Peers) else Peers(peers)
    workers = default_threads(threads)
    checkpoint = open_checkpoint(variants[0].path)
    architecture = architecture_of(checkpoint)
    kind = kind_of(checkpoint)
    _refuse(kind, batches=batches, lengths=lengths, prompts=prompts, news=news)

    def ids(sequences: int, tokens: int) -> np.ndarray:
        return text_ids(checkpoint, architecture.vocab_size, sequences, tokens)

    limit = architecture.max_positions
    cases: dict[str, tuple[np.ndarray, ...]] = {}
    tokens: dict[str, int] = {}
    if kind == "encoder":
        for b, s in _encoder_cases(batches, lengths, limit):
            cases[f"{b}x{s}"], tokens[f"{b}x{s}"] = (ids(b, s),), b * s
    else:
        for p in prompts if prompts is not None else [min(p, limit) for p in PROMPT]:
            cases[f"prefill {p}"], tokens[f"prefill {p}"] = (ids(1, p)[0],), p
        for n in news if news is not None else [min(n, limit) for n in NEW]:
            cases[f"decode {n}"], tokens[f"decode {n}"] = (ids(1, 1)[0], np.array([n])), n
    longest = max(v[0].shape[-1] if len(v) == 1 else int(v[1][0]) for v in cases.values())
    if longest > limit:
        raise AerogelError(f"the model has only {limit} positions, too few for {longest} tokens")

    contestants = own_contestants(variants, kind, workers)
    calibration = [ids(24, s)[i : i + 1] for s in (4, 16, min(64, limit)) for i in range(24)]
    contestants += peer_contestants(asked, variants, source or checkpoint.path, kind, workers, calibration)
    return _hold(contestants, cases, tokens, {}, kind, workers, rounds, asked, progress, target)


def bench_linear(
    n: int,
    k: int,
    sparsities: Sequence[float] = (0.5, 0.8, 0.9),
    *,
    tokens: Sequence[int] = LINEAR_TOKENS,
    threads: int | None = None,
    rounds: int = ROUNDS,
    peers: str | Peers = "none",
    weights: np.ndarray | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures one linear layer y[M,N] = x[M,K] w[N,K]^T, dense and at each sparsity.

    Args:
        n, k: outputs and inputs.
        sparsities: fractions of weights that are removed, the smallest first.
        tokens: the Ms.
        weights: [N,K] float32; Gaussian ones unless given.
        threads, rounds, peers, progress: as for `bench_model`.
    """
    asked = peers if isinstance(peers, Peers) else Peers(peers)
    workers = default_threads(threads)
    random = np.random.default_rng(1)
    cases = {f"1x{m}": (random.standard_normal((m, k), np.float32),) for m in tokens}
    with tempfile.TemporaryDirectory(prefix="aerogel-bench-") as work:
        contestants = linear_contestants(n, k, sparsities, asked, Path(work), workers, weights)
        truth = {}
        for contestant in contestants:
            with np.load(contestant.job["model"]) as arrays:
                truth[str(contestant.reference)] = {name: x @ arrays["weight"].T for name, (x,) in cases.items()}
        counts = {f"1x{m}": m for m in tokens}
        return _hold(contestants, cases, counts, truth, "linear", workers, rounds, asked, progress, f"{n}x{k}")


def _hold(
    contestants: Sequence[Contestant],
    cases: Mapping[str, tuple[np.ndarray, ...]],
    tokens: Mapping[str, int],
    truth: dict[str, dict[str, np.ndarray]],
    kind: str,
    threads: int,
    rounds: int,
    peers: Peers,
    progress: Progress | None,
    target: str,
) -> dict[str, Any]:
    steps = len(contestants) + len(cases) + 1
    done = 0

    def step(what: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, steps, what)

    here = machine(threads)
    step("the machine's limits")
    rows: dict[str, dict[str, Any]] = {}
    workers: dict[str, Worker] = {}
    shape = list(next(iter(cases.values()))[0].shape)
    turns: dict[str, dict[str, list[Turn]]] = {}

    def fail(name: str, why: str) -> None:
        if not _by_name(contestants, name).foreign:
            raise EngineError(f"{name}: {why}")
        peers.skipped.append(f"{name}: {why}")
        rows.pop(name, None)
        if name in workers:
            workers.pop(name).close()

    try:
        for contestant in contestants:
            name = contestant.name
            try:
                workers[name] = Worker(contestant.engine, {**contestant.job, "shape": shape}, contestant.python)
                rows[name] = {"name": name, "engine": contestant.engine, "precision": contestant.job["precision"]}
                rows[name] |= workers[name].facts
                outputs = {case: workers[name].output(*arrays) for case, arrays in cases.items()}
                rows[name] |= list(outputs.values())[-1][1]  # memory, after all of them
                answers = {case: output for case, (output, _) in outputs.items()}
                truth.setdefault(name, answers)
                rows[name] |= _agreement(kind, answers, truth[contestant.reference or name])
                least = MIN_COSINE[contestant.job["precision"]]
                # Of models, aerogel's own variants may be pruned copies of the first: other answers on purpose.
                if (contestant.foreign or kind == "linear") and not rows[name]["cosine_min"] >= least:
                    fail(name, f"its answers are not this model's: cosine {rows[name]['cosine_min']:.3f}")
            except EngineError as error:
                fail(name, str(error))
            step(f"load: {name}")
        for case, arrays in cases.items():
            turns[case] = interleave(workers, arrays, rounds, fail)
            step(case)
    finally:
        for worker in workers.values():
            worker.close()

    everything = [turn for of_case in turns.values() for of_one in of_case.values() for turn in of_one]
    noise.mark(everything)
    dense = rows[BASELINE] if BASELINE in rows else next(iter(rows.values()))
    spreads = {}
    for name, row in rows.items():
        row.setdefault("macs", dense["dense_macs"])
        row.setdefault("weight_bytes", dense["dense_macs"] * (1 if row["precision"] == "int8" else 4))
        row["latency_ms"] = {}
        for case, of_case in turns.items():
            if name not in of_case:
                continue
            figures = summary(of_case[name])
            spreads[f"{name} at {case}"] = (figures["q3"] - figures["q1"]) / figures["median"]
            if BASELINE in of_case:
                figures["speedup"] = speedup(of_case[BASELINE], of_case[name])
            figures["tokens_per_s"] = 1000 * tokens[case] / figures["median"]
            one = tokens[case] == 1 or case.startswith("decode")
            ms = figures["median"] / (tokens[case] if one else 1)
            macs = row["macs"] * (1 if one else tokens[case])
            figures |= rates(here["limits"], row["precision"], macs, row["weight_bytes"], ms, one)
            row["latency_ms"][case] = figures
    return {
        "target": target,
        "kind": kind,
        "machine": here,
        "threads": threads,
        "rounds": rounds,
        "noise": noise.judge(everything, spreads).as_dict(),
        "variants": list(rows.values()),
        "skipped": peers.skipped,
    }


def _agreement(kind: str, answers: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Cosines to the reference: of pooled sequences, of a layer's rows, of logits less their mean."""
    found = []
    for case, output in answers.items():
        a, b = output, truth[case]
        if output.dtype.kind != "f":  # tokens that were generated: the logits of the prefill say it better
            continue
        if a.shape != b.shape:
            return {"cosine_mean": 0.0, "cosine_min": 0.0}
        a, b = np.atleast_2d(a).astype(np.float64), np.atleast_2d(b).astype(np.float64)
        if kind == "encoder":
            a, b = a.mean(axis=1), b.mean(axis=1)
        if kind == "decoder":
            a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        found.append((a * b).sum(axis=1) / np.maximum(norms, 1e-30))
    if not found:
        return {"cosine_mean": 1.0, "cosine_min": 1.0}
    cosines = np.concatenate(found)
    return {"cosine_mean": float(cosines.mean()), "cosine_min": float(cosines.min())}


def _by_name(contestants: Sequence[Contestant], name: str) -> Contestant:
    return next(contestant for contestant in contestants if contestant.name == name)


def _encoder_cases(batches: Sequence[int] | None, lengths: Sequence[int] | None, limit: int) -> list[tuple[int, int]]:
    if batches is None and lengths is None:
        return list(dict.fromkeys((b, min(s, limit)) for b, s in ENCODER_CASES))
    return [(b, s) for b in batches or (1,) for s in lengths or (min(128, limit),)]


def _refuse(kind: str, **asked: Sequence[int] | None) -> None:
    flags = {"batches": "--batch", "lengths": "--seq", "prompts": "--prompt", "news": "--new"}
    wrong = ("batches", "lengths") if kind == "decoder" else ("prompts", "news")
    for name in wrong:
        if asked[name] is not None:
            what = (
                "a language model: use --prompt and --new" if kind == "decoder" else "an encoder: use --batch and --seq"
            )
            raise AerogelError(f"{flags[name]}: this is {what}")

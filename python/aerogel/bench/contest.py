"""One interleaved run: everyone is loaded and checked, then timed in turns, and the figures are put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from aerogel._util.progress import Progress
from aerogel.bench import noise
from aerogel.bench.cases import Case
from aerogel.bench.contestants import MIN_COSINE, Contestant, Peers
from aerogel.bench.limits import machine, rates
from aerogel.bench.noise import Turn
from aerogel.bench.run import EngineError, Worker, interleave, speedup, summary

#: The contestant that speed-ups are over.
BASELINE = "dense int8"


def hold(
    contestants: Sequence[Contestant],
    cases: Sequence[Case],
    kind: str,
    *,
    threads: int,
    rounds: int,
    peers: Peers,
    target: str,
    truth: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures everyone in every case.

    Args:
        truth: the right answers by `Contestant.reference` and case; without them the references' own.
    """
    step = _steps(progress, len(contestants) + len(cases) + 1)
    here = machine(threads)
    step("the machine's limits")
    field = _Field(kind, peers, truth or {})
    turns: dict[str, dict[str, list[Turn]]] = {}
    try:
        for contestant in contestants:
            field.enter(contestant, cases)
            step(f"load: {contestant.name}")
        for case in cases:
            turns[case.name] = interleave(field.workers, case.arrays, rounds, field.fail)
            step(case.name)
    finally:
        field.close()
    everything = [turn for of_case in turns.values() for of_one in of_case.values() for turn in of_one]
    noise.mark(everything)
    spreads = _add_figures(field.rows, cases, turns, here["limits"])
    return {
        "target": target,
        "kind": kind,
        "machine": here,
        "threads": threads,
        "rounds": rounds,
        "noise": noise.judge(everything, spreads).as_dict(),
        "variants": list(field.rows.values()),
        "skipped": peers.skipped,
    }


def _steps(progress: Progress | None, total: int) -> Callable[[str], None]:
    """Counts for `progress`."""
    done = 0

    def step(what: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total, what)

    return step


class _Field:
    """Those who are in the run: their processes, and what is known of each."""

    def __init__(self, kind: str, peers: Peers, truth: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        self.workers: dict[str, Worker] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self._contestants: dict[str, Contestant] = {}
        self._kind, self._peers, self._truth = kind, peers, dict(truth)

    def enter(self, contestant: Contestant, cases: Sequence[Case]) -> None:
        """Loads an engine and compares its answers with the right ones."""
        name, precision = contestant.name, contestant.job["precision"]
        self._contestants[name] = contestant
        try:
            job = {**contestant.job, "shape": list(cases[0].arrays[0].shape)}
            worker = self.workers[name] = Worker(contestant.engine, job, contestant.python)
            row = {"name": name, "engine": contestant.engine, "precision": precision, **worker.facts}
            self.rows[name] = row
            answers = {}
            for case in cases:
                answers[case.name], memory = worker.output(*case.arrays)
            row |= memory  # that after all of them
            self._truth.setdefault(name, answers)
            row |= _agreement(self._kind, answers, self._truth[contestant.reference or name])
            # Of models, aerogel's own variants may be pruned copies of the first: other answers on purpose.
            if (contestant.foreign or self._kind == "linear") and not row["cosine_min"] >= MIN_COSINE[precision]:
                self.fail(name, f"its answers are not this model's: cosine {row['cosine_min']:.3f}")
        except EngineError as error:
            self.fail(name, str(error))

    def fail(self, name: str, why: str) -> None:
        """Leaves a peer out; aerogel itself must not fail."""
        if not self._contestants[name].foreign:
            raise EngineError(f"{name}: {why}")
        self._peers.skipped.append(f"{name}: {why}")
        self.rows.pop(name, None)
        if name in self.workers:
            self.workers.pop(name).close()

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()


def _add_figures(
    rows: Mapping[str, dict[str, Any]],
    cases: Sequence[Case],
    turns: Mapping[str, Mapping[str, Sequence[Turn]]],
    limits: dict[str, Any],
) -> dict[str, float]:
    """Adds to each row what its turns say, by case; returns the spread of each time, for `noise.judge`."""
    dense = rows[BASELINE] if BASELINE in rows else next(iter(rows.values()))
    spreads = {}
    for name, row in rows.items():
        row.setdefault("macs", dense["dense_macs"])
        row.setdefault("weight_bytes", dense["dense_macs"] * (1 if row["precision"] == "int8" else 4))
        row["latency_ms"] = {}
        for case in cases:
            of_case = turns[case.name]
            if name not in of_case:
                continue
            figures = summary(of_case[name])
            spreads[f"{name} at {case.name}"] = (figures["q3"] - figures["q1"]) / figures["median"]
            if BASELINE in of_case:
                figures["speedup"] = speedup(of_case[BASELINE], of_case[name])
            figures["tokens_per_s"] = 1000 * case.tokens / figures["median"]
            one = case.one_by_one
            ms = figures["median"] / (case.tokens if one else 1)
            macs = row["macs"] * (1 if one else case.tokens)
            figures |= rates(limits, row["precision"], macs, row["weight_bytes"], ms, one)
            row["latency_ms"][case.name] = figures
    return spreads


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

"""Measuring a packed model beside its dense forms.

Times are medians over rounds in which the variants take turns, so that what the machine does meanwhile hits all of them
alike. Memory and load time are taken in a process of its own for each variant.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from aerogel import _core
from aerogel._version import __version__
from aerogel.checkpoint import open_checkpoint
from aerogel.compression import Progress, write_packed
from aerogel.errors import AerogelError, TokenizerError
from aerogel.model import Model, load
from aerogel.prune import Unstructured

#: (sequences, tokens each) -> name
SHAPES = {"1x16": (1, 16), "1x128": (1, 128), "16x128": (16, 128)}
#: Measuring one shape takes about so long, over all variants; but never fewer rounds than the minimum.
SECONDS, MIN_ROUNDS, MAX_ROUNDS = 6.0, 3, 50


@dataclass(frozen=True)
class Variant:
    """A packed model under a name, with the kernel format it is loaded in."""

    name: str
    path: str
    format: str = "auto"


@dataclass
class Figures:
    """What was measured of one variant. Sizes are bytes, times milliseconds.

    `resident_bytes` is what the process grew by from before loading to after a first run of 1x128 tokens, the touched
    part of the mapped file included; `peak_bytes` the same for the highest point on the way.
    """

    name: str
    disk_bytes: int = 0
    resident_bytes: int = 0
    peak_bytes: int = 0
    load_ms: float = 0.0
    tokenizer_ms: float | None = None
    latency_ms: dict[str, float] = field(default_factory=dict)
    sentences_per_s: float = 0.0
    decode_tokens_per_s: float | None = None
    cosine_mean: float = 1.0
    cosine_min: float = 1.0


def bench(
    folder: str | os.PathLike[str],
    dense: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures a packed model beside dense fp32 and dense int8.

    Args:
        folder: the packed model.
        dense: where the dense forms come from; without it they are the packed weights, zeros and all: as fast as any
            dense model, but the cosine then only shows what int8 does.
        threads: worker threads of every variant.
        progress: called as progress(done, total, what).
    """
    with tempfile.TemporaryDirectory(prefix="aerogel-bench-") as work:
        variants = [*dense_variants(dense or folder, Path(work), threads), Variant("packed", os.fspath(folder))]
        return measure(variants, threads, progress)


def dense_variants(source: str | os.PathLike[str], work: Path, threads: int | None) -> list[Variant]:
    """Dense fp32 and dense int8 forms of a model, written under `work`."""
    checkpoint = open_checkpoint(source)
    variants = []
    for name, quant in (("dense fp32", "none"), ("dense int8", "int8")):
        path = work / name.replace(" ", "-")
        write_packed(checkpoint, path, Unstructured(0), quant, sparse=False, threads=threads)
        variants.append(Variant(name, str(path), "dense"))
    return variants


def measure(variants: Sequence[Variant], threads: int | None, progress: Progress | None = None) -> dict[str, Any]:
    """The figures of all variants, as plain values; cosines are taken to the first."""
    steps = 2 * len(variants) + len(SHAPES) + 1
    done = 0

    def step(what: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, steps, what)

    figures = [Figures(variant.name, disk_bytes=_file_bytes(Path(variant.path))) for variant in variants]
    for variant, row in zip(variants, figures, strict=True):
        for key, value in _probe_apart(variant, threads).items():
            setattr(row, key, value)
        step(f"load and memory: {variant.name}")

    models = []
    for variant in variants:
        models.append(load(variant.path, threads, variant.format))
        step(f"load: {variant.name}")
    for name, (sequences, tokens) in SHAPES.items():
        ids = _random_ids(models[0], sequences, tokens)
        for row, ms in zip(figures, _interleaved([_forward(model, ids) for model in models]), strict=True):
            row.latency_ms[name] = ms
            if name == "16x128":
                row.sentences_per_s = 1000 * sequences / ms
        step(name)
    if models[0]._architecture.generates:
        ids, new = _random_ids(models[0], 1, 16)[0], 32
        decodes = [_decode(model, ids, new) for model in models]
        for row, ms in zip(figures, _interleaved(decodes), strict=True):
            row.decode_tokens_per_s = 1000 * new / ms
    outputs = [_outputs(model) for model in models]
    for row, output in zip(figures, outputs, strict=True):
        cosines = _cosines(outputs[0], output)
        row.cosine_mean, row.cosine_min = float(cosines.mean()), float(cosines.min())
    step("cosine")
    return {
        "aerogel": __version__,
        "isa": _core.isa(),
        "cpu": _core.cpu_name(),
        "threads": models[0].threads,
        "variants": [asdict(row) for row in figures],
    }


def sentences() -> dict[str, list[str]]:
    """The sentences that come with the package, by topic."""
    found: dict[str, list[str]] = {}
    topic = ""
    for line in resources.files("aerogel").joinpath("data/sentences.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            topic = line[2:]
        elif line:
            found.setdefault(topic, []).append(line)
    return found


def _interleaved(runs: Sequence[Callable[[], object]]) -> list[float]:
    """Median milliseconds of each, after one unmeasured round."""
    for run in runs:
        run()
    times: list[list[float]] = [[] for _ in runs]
    start = time.perf_counter()
    while len(times[0]) < MIN_ROUNDS or (len(times[0]) < MAX_ROUNDS and time.perf_counter() - start < SECONDS):
        for run, row in zip(runs, times, strict=True):
            begin = time.perf_counter()
            run()
            row.append(1000 * (time.perf_counter() - begin))
    return [statistics.median(row) for row in times]


def _forward(model: Model, ids: list[list[int]]) -> Callable[[], object]:
    output = "embedding" if "embedding" in model.outputs else model.outputs[0]
    flat = np.concatenate(ids)
    offsets = np.cumsum([0, *map(len, ids)])
    return lambda: model.forward(flat, offsets, output, last_only=True)


def _decode(model: Model, ids: list[int], count: int) -> Callable[[], object]:
    return lambda: list(model.generate_tokens(ids, count, stop=()))


def _random_ids(model: Model, sequences: int, tokens: int) -> list[list[int]]:
    limit = model._architecture.max_positions
    if tokens > limit:
        raise AerogelError(f"the model has only {limit} positions, too few for {tokens} tokens")
    random = np.random.default_rng(0)
    return random.integers(0, model._architecture.vocab_size, (sequences, tokens)).tolist()


def _outputs(model: Model) -> np.ndarray:
    """What the model makes of the package's sentences, one row each: embeddings, scores, or the last token's logits."""
    try:
        ids = model.tokenizer.encode([line for lines in sentences().values() for line in lines], model.max_tokens)
    except TokenizerError:
        ids = _random_ids(model, 32, 16)
    output = "embedding" if "embedding" in model.outputs else model.outputs[0]
    rows = model.forward(ids, output=output, last_only=True)
    if len(rows) == len(ids):
        return rows
    ends = np.cumsum([len(sequence) for sequence in ids]) - 1
    return rows[ends]


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / np.maximum(norms, 1e-30)


def _file_bytes(folder: Path) -> int:
    return (folder / "model.safetensors").stat().st_size


def _probe_apart(variant: Variant, threads: int | None) -> dict[str, Any]:
    """`_probe` in a new process."""
    command = [sys.executable, "-m", "aerogel.bench", variant.path, variant.format, str(threads or 0)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise AerogelError(f"measuring {variant.name} failed: {result.stderr.strip()[-500:]}")
    return json.loads(result.stdout)


def _probe(path: str, format: str, threads: int | None) -> dict[str, Any]:
    before = _resident_bytes()
    start = time.perf_counter()
    model = load(path, threads, format)
    load_ms = 1000 * (time.perf_counter() - start)
    _forward(model, _random_ids(model, 1, 128))()
    after, peak = _resident_bytes(), _peak_bytes()
    start = time.perf_counter()
    try:
        model.tokenizer.encode(["a text"])
        tokenizer_ms = 1000 * (time.perf_counter() - start)
    except TokenizerError:
        tokenizer_ms = None
    return {
        "load_ms": load_ms,
        "tokenizer_ms": tokenizer_ms,
        "resident_bytes": max(0, after - before),
        "peak_bytes": max(0, peak - before),
    }


def _resident_bytes() -> int:
    """Resident memory now; where the system does not say, its peak so far."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _peak_bytes()


def _peak_bytes() -> int:
    try:
        # not getrusage where this exists: after exec that still counts the process that forked
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    json.dump(_probe(sys.argv[1], sys.argv[2], int(sys.argv[3]) or None), sys.stdout)

"""A sweep: compress and score every point, then time them all in turn with the dense forms, and keep what is worth it.

DIR/points/NAME/result.json    what is known of a point, and under which conditions; a point is not done twice
DIR/points/NAME/model/         its packed model, if it is kept
DIR/sweep.json, sweep.csv      the table
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from aerogel._util.checks import thread_count
from aerogel._util.files import write_json
from aerogel._util.progress import Progress
from aerogel._util.version import __version__
from aerogel.architectures import architecture_of
from aerogel.bench import ROUNDS, Variant, bench_variants, machine
from aerogel.bench.peers import file_key
from aerogel.bench.variants import kind_of
from aerogel.checkpoint import Checkpoint, open_checkpoint
from aerogel.checkpoint.target import check_apart
from aerogel.compression import compress
from aerogel.engine.model import load
from aerogel.errors import AerogelError, RecipeError
from aerogel.evaluate import Task
from aerogel.sweeps.grid import label_of, name_of, parse_grid, points_of
from aerogel.sweeps.results import Point, Sweep

log = logging.getLogger("aerogel")

#: Models that are timed in one run, dense int8 among them every time: each is a process with its weights in memory.
GROUP = 7
#: Tokens that a language model decodes in a timed call.
DECODE = 32
#: The names of the dense forms; the second is what speed-ups are over.
FP32, INT8 = "dense fp32", "dense int8"
KEEP = ("best", "all")


def sweep(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    grid: str | Mapping[str, Sequence[Any]],
    task: Task[Any],
    *,
    seq: int = 128,
    keep: str = "best",
    threads: int | None = None,
    rounds: int = ROUNDS,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Sweep:
    """Compresses a model at every point of a grid, and measures the accuracy, size and time of each result.

    An interrupted sweep continues where it stopped: a point whose result.json has the same source, arguments, data and
    version is not compressed or scored again, nor timed again with the same CPU, threads and case.

    Args:
        source: the dense model: a folder or file, or a model id on the Hugging Face hub.
        out: the folder of the sweep.
        grid: values of arguments of `aerogel.compress`, as a mapping or as text: "sparsity=0.5,0.8 quant=int8".
        task: the evaluation task, such as `aerogel.evaluate.Sts("dev.csv")`.
        seq: tokens of the one sequence that an encoder is timed with; a language model decodes 32 tokens.
        keep: "best" keeps the models on the Pareto fronts of score against size and against time, "all" keeps all.
        threads: worker threads of everything.
        rounds: interleaved rounds of timing.
        progress: called as progress(done, total, what).
        overwrite: replace the table of another sweep in `out`: of another model or task, or with points that are not among
            these. The same sweep goes on without it.

    Returns:
        The points, with the dense forms first. A point that failed has its error and no figures.

    Raises:
        RecipeError: the grid has an argument or value that does not exist, or `out` is the folder of something else, or has
            the source in it.
    """
    if keep not in KEEP:
        raise RecipeError(f"keep: expected {' or '.join(KEEP)}, got {keep!r}")
    workers = thread_count(threads)
    points = points_of(parse_grid(grid) if isinstance(grid, str) else grid)
    folder = Path(out)
    if folder.exists() and not (folder / "points").is_dir() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError(f"{folder}: is not empty and no sweep's folder")
    checkpoint = open_checkpoint(source)
    check_apart(checkpoint.path, folder)
    case = _case(checkpoint, seq)
    here = machine(workers, limits=False)
    times = {"cpu": here["cpu"], "isa": here["isa"], "threads": workers, "case": case, "aerogel": __version__}
    conditions = {"source": source_key(checkpoint), "task": task_key(task), "aerogel": __version__}
    entries = _entries(points, folder / "points", conditions)
    if not overwrite:
        _check_table(folder / "sweep.json", os.fspath(source), task, [entry.arguments for entry in entries])
    step = _steps(progress, 2 * len(entries))
    _score(entries, checkpoint, task, workers, times, keep == "all", step)
    _time(entries, checkpoint, case, workers, rounds, times, step)
    if progress is not None:
        progress(2 * len(entries), 2 * len(entries), "")

    def found() -> Sweep:
        of = (os.fspath(source), task.name, task.metric, task.lower_is_better, case, here)
        return Sweep(*of, [entry.point() for entry in entries], _notes(entries))

    if keep == "best":
        _keep_best(entries, found())
    result = found()
    result.write(folder)
    return result


def _key(arguments: Mapping[str, Any]) -> str:
    return json.dumps(arguments, sort_keys=True, default=str)


def _check_table(table: Path, source: str, task: Task[Any], points: Sequence[Mapping[str, Any]]) -> None:
    """Raises RecipeError where a table is there whose rows would be lost."""
    if not table.exists():
        return
    try:
        found = json.loads(table.read_text(encoding="utf-8"))
        there = {_key({k[4:]: v for k, v in row.items() if k.startswith("arg_")}) for row in found["points"]}
        same = (found["source"], found["task"], found["metric"]) == (source, task.name, task.metric)
    except (OSError, ValueError, KeyError, TypeError):
        raise RecipeError(f"{table}: is no table of a sweep: give overwrite (--overwrite) to replace it") from None
    lost = there - {_key(point) for point in points}
    if not same or lost:
        what = f"other points too ({len(lost)})" if same else "another model or task"
        raise RecipeError(
            f"{table}: is the table of {what}: give overwrite (--overwrite) to replace it, or another folder"
        )


def _case(checkpoint: Checkpoint, seq: int) -> str:
    """What is timed, as `bench` calls it."""
    decodes = kind_of(checkpoint) == "decoder"
    limit = architecture_of(checkpoint).max_positions
    if not 1 <= (DECODE if decodes else seq) <= limit:
        raise AerogelError(f"seq: expected 1 to {limit} tokens, all that the model has, got {seq}")
    return f"decode {min(DECODE, limit)}" if decodes else f"1x{seq}"


def _entries(points: Sequence[dict[str, Any]], folder: Path, conditions: dict[str, Any]) -> list[_Entry]:
    """The dense forms and the points, each with a label and a folder of its own."""
    names = [name_of(point) for point in points]
    labels = [label_of(point, points) for point in points]
    if len(set(names)) < len(names) or len(set(labels)) < len(labels):
        labels = names = [f"{i:03d} {name}" for i, name in enumerate(names)]
    return [
        _Entry(FP32, folder / "dense-fp32", {}, conditions, dense=True),
        _Entry(INT8, folder / "dense-int8", {"sparsity": 0, "quant": "int8"}, conditions, dense=True),
        *(_Entry(label, folder / name, p, conditions) for label, name, p in zip(labels, names, points)),
    ]


def _steps(progress: Progress | None, total: int) -> Callable[[str], None]:
    """Counts for `progress`."""
    done = 0

    def step(what: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(min(done, total), total, what)

    return step


def _score(
    entries: Sequence[_Entry],
    checkpoint: Checkpoint,
    task: Task[Any],
    threads: int,
    times: Mapping[str, Any],
    keep_all: bool,
    step: Callable[[str], None],
) -> None:
    """Compresses and scores what is not known yet."""

    @functools.cache
    def dense_answers() -> Any:
        return task.answer(load(checkpoint.path, threads))

    for entry in entries:
        entry.read(times)
        wanted = keep_all and not entry.dense
        if entry.scored and (entry.timed or entry.has_model) and (entry.has_model or not wanted):
            log.info("sweep: %s is known", entry.label)
        else:
            _make(entry, checkpoint, task, dense_answers, threads, times)
        step(entry.label)


def _notes(entries: Sequence[_Entry]) -> list[str]:
    """What was said about noise, once each."""
    warnings = [entry.result["timing"]["noise"] for entry in entries if entry.timed]
    return list(dict.fromkeys(warning for warning in warnings if warning))


def _keep_best(entries: Sequence[_Entry], found: Sweep) -> None:
    """Deletes the models that are on no Pareto front."""
    for entry, small, fast in zip(entries, found.front("bytes"), found.front("ms")):
        if not entry.dense and entry.timed and not (small or fast):
            shutil.rmtree(entry.model, ignore_errors=True)


class _Entry:
    """A point while it is worked on: its folder, and what is known of it."""

    def __init__(
        self, label: str, folder: Path, arguments: dict[str, Any], conditions: dict[str, Any], dense: bool = False
    ) -> None:
        self.label, self.folder, self.arguments, self.dense = label, folder, arguments, dense
        self.key = {**conditions, "arguments": arguments}
        self.model = folder / "model"
        self.result: dict[str, Any] = {}
        self.error: str | None = None

    @property
    def scored(self) -> bool:
        return "score" in self.result

    @property
    def timed(self) -> bool:
        return "timing" in self.result

    @property
    def has_model(self) -> bool:
        return self.label == FP32 or (self.model / "model.safetensors").exists()

    def read(self, times: Mapping[str, Any]) -> None:
        """Takes what an earlier sweep found under the same conditions."""
        try:
            found = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
            if found["key"] == _plain(self.key):
                self.result = {key: found[key] for key in ("report", "score")}
                if found.get("times") == _plain(times):
                    self.result["timing"] = found["timing"]
        except (OSError, ValueError, KeyError, TypeError):
            return  # none, or half of one: it is done again

    def write(self, times: Mapping[str, Any] | None = None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        found = {"key": self.key, **self.result, "times": times}
        write_json(self.folder / "result.json", found)

    def point(self) -> Point:
        return Point(
            self.label,
            self.arguments,
            self.result.get("report"),
            self.result.get("score"),
            self.result.get("timing"),
            self.error,
            str(self.model) if self.has_model and self.label != FP32 else None,
            self.dense,
        )


def _make(
    entry: _Entry,
    checkpoint: Checkpoint,
    task: Task[Any],
    dense_answers: Callable[[], Any],
    threads: int,
    times: Mapping[str, Any],
) -> None:
    """Compresses and scores one point. What goes wrong with it is its result: the others go on."""
    old = entry.result
    entry.result = {}
    dense = dense_answers()  # an error here is everyone's
    try:
        if entry.label == FP32:
            entry.result["report"] = _dense_report(checkpoint)
            answers = dense
        else:
            report = compress(checkpoint.path, entry.model, threads=threads, **entry.arguments, overwrite=True)
            entry.result["report"] = _plain(report.as_dict())
            answers = task.answer(load(entry.model, threads))
        entry.result["score"] = _plain(task.score(answers, dense).as_dict(values=False))
    except AerogelError as error:
        entry.error = str(error)
        entry.result = {}
        log.warning("sweep: %s: %s", entry.label, error)
        return
    if old.get("score") == entry.result["score"] and "timing" in old:
        entry.result["timing"] = old["timing"]  # only the model was missing
    entry.write(times if entry.timed else None)


def _plain(value: Any) -> Any:
    """As it comes back from a file."""
    return json.loads(json.dumps(value))


def _dense_report(checkpoint: Checkpoint) -> dict[str, Any]:
    """The size of the dense form in float32."""
    size = 0
    for tensor in architecture_of(checkpoint).tensors():
        count = 1
        for length in tensor.shape:
            count *= length
        size += 4 * count
    return {"file_bytes": size, "dense_bytes": size, "sparsity": 0.0, "tensors": [], "recipe": {}, "seconds": 0.0}


class _Shape(TypedDict, total=False):
    """What `bench_variants` measures."""

    batches: list[int]
    lengths: list[int]
    prompts: list[int]
    news: list[int]


def _time(
    entries: Sequence[_Entry],
    checkpoint: Checkpoint,
    case: str,
    threads: int,
    rounds: int,
    times: Mapping[str, Any],
    step: Callable[[str], None],
) -> None:
    """Times what has no time yet, in turns with dense int8."""
    baseline = next(entry for entry in entries if entry.label == INT8)
    waiting = [entry for entry in entries if entry.scored and not entry.timed and entry is not baseline]
    if not waiting or not baseline.has_model:
        return
    per_call = int(case.split()[1]) if case.startswith("decode") else 1
    shape: _Shape
    if case.startswith("decode"):
        shape = {"news": [per_call], "prompts": []}
    else:
        shape = {"batches": [1], "lengths": [int(case[2:])]}
    for begin in range(0, len(waiting), GROUP - 1):
        group = waiting[begin : begin + GROUP - 1]
        result = bench_variants(
            [_variant(entry, checkpoint) for entry in (baseline, *group)], threads=threads, rounds=rounds, **shape
        )
        found = {variant["name"]: variant["latency_ms"] for variant in result["variants"]}
        # The machine may be slower now than when the others were timed: dense int8 says by how much.
        median = next(iter(found[INT8].values()))["median"] / per_call
        scale = baseline.result["timing"]["median"] / median if baseline.timed else 1.0
        for entry in (baseline, *group):
            figures = next(iter(found[entry.label].values()))
            timing = {key: figures[key] / per_call * scale for key in ("median", "min", "q1", "q3")}
            timing |= {"scale": scale, "noise": result["noise"]["warning"]}
            timing["speedup"] = figures.get("speedup")
            if entry is not baseline or not entry.timed:
                entry.result["timing"] = timing
                entry.write(times)
            step(f"time: {entry.label}")


def _variant(entry: _Entry, checkpoint: Checkpoint) -> Variant:
    if entry.label == FP32:
        return Variant(FP32, str(checkpoint.path), "dense", "fp32")
    precision = "fp32" if entry.arguments.get("quant") in ("none", "bf16") else "int8"
    return Variant(entry.label, str(entry.model), "dense" if entry.dense else "auto", precision)


def source_key(checkpoint: Checkpoint) -> str:
    """Short hash of a model's weights: the same folder with other weights is another source."""
    path = checkpoint.path
    files = [path] if path.is_file() else sorted([*path.rglob("*.safetensors"), *path.rglob("*.gguf")])
    return hashlib.sha256(" ".join(file_key(file) for file in files).encode()).hexdigest()[:12]


def task_key(task: Task[Any]) -> dict[str, Any]:
    """What a score depends on beside the model: the data's content and the settings."""
    key: dict[str, Any] = {"task": task.name, **{name: file_key(file) for name, file in task.files.items()}}
    context = getattr(task, "context", None)
    return key if context is None else {**key, "context": context}

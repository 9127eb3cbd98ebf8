"""The stages of a compression, one after the other."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from aerogel._util.checks import thread_count
from aerogel._util.progress import Progress
from aerogel._util.version import __version__
from aerogel.architectures import Architecture, Role, Tensor, architecture_of
from aerogel.budget import budget
from aerogel.calibrate import MOST_OUTPUTS, Inputs, Stack, Statistics, Visitor, walk
from aerogel.checkpoint import Checkpoint, Weight
from aerogel.checkpoint.checksums import write_checksums
from aerogel.checkpoint.config import write_json
from aerogel.checkpoint.folder import keep_files
from aerogel.checkpoint.packed import SmallSafetensorsWriter, add_weight, packed_config
from aerogel.checkpoint.safetensors_writer import SafetensorsWriter
from aerogel.checkpoint.target import writing_model
from aerogel.checkpoint.tensor_files import PACKED_FORMAT
from aerogel.compression.bits import schemes_of
from aerogel.compression.calibrated import Compressed, compress_calibrated
from aerogel.compression.choices import BLIND, choices, own_sparsities, refuse_blind, resolved, without_kernel
from aerogel.compression.matrix import Choice, compress_matrix, error_of
from aerogel.compression.output_step import with_output_step
from aerogel.compression.recipe import Recipe
from aerogel.compression.report import CompressReport, TensorReport
from aerogel.compression.texts import FEW_TEXTS, calibration_sequences, text_hashes, with_default_texts
from aerogel.errors import AerogelError, RecipeError
from aerogel.prune import METHODS, parse_pattern, sparsity_below
from aerogel.structure import prune_on_texts, prune_structure

log = logging.getLogger("aerogel")


def pack(
    checkpoint: Checkpoint,
    out: Path,
    recipe: Recipe,
    sparse: bool | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> CompressReport:
    """Compresses an open checkpoint into a packed model; `sparse` forces how matrices are stored, else the smaller form is
    taken. `overwrite`: see `compress`."""
    start = time.perf_counter()
    threads = thread_count(threads)
    recipe = with_default_texts(recipe, checkpoint)
    asked, recipe = recipe, resolved(recipe)
    source = architecture_of(checkpoint)
    dense_bytes = 4 * sum(math.prod(t.shape) for t in source.tensors())
    ids = calibration_sequences(recipe, source, checkpoint, threads)
    few = _too_few(recipe, source, ids)
    slow = without_kernel(recipe)
    for note in slow:
        log.warning("%s", note)
    checkpoint = _structured(recipe, checkpoint, ids, threads)
    architecture = architecture_of(checkpoint)
    fits_heads = _fits_heads(recipe, architecture, ids)
    if fits_heads and ids is not None:
        checkpoint = with_output_step(checkpoint, architecture, len(ids))
        architecture = architecture_of(checkpoint)
    tensors = architecture.tensors()
    if _prunes(recipe) and not any(tensor.role is Role.LINEAR for tensor in tensors):
        raise RecipeError(f"prune: expected a model with linear layers, got {checkpoint.path}, which has none to prune")
    sparsities = _sparsities(recipe, architecture, checkpoint, ids, threads)
    if recipe.prune.threshold is not None:  # how much goes is known only now
        refuse_blind(asked, _overall(sparsities, tensors))
    refitted = {t.name for t in tensors if fits_heads and t.role is Role.HEAD and t.shape[0] <= MOST_OUTPUTS}
    schemes = schemes_of(recipe, architecture, checkpoint, ids)
    chosen = choices(recipe, tensors, sparsities, sparse, schemes, refitted)
    counter = _Counter(progress, len(tensors))
    sources = _sources(recipe)
    with writing_model(out, overwrite) as folder:
        file = folder / "model.safetensors"
        known = _fitted(recipe, architecture, checkpoint, ids, chosen, threads, counter)
        writer = (SmallSafetensorsWriter if recipe.pack == "small" else SafetensorsWriter)(file, checksums=True)
        reports = []
        for matrix in _in_order(checkpoint, tensors, chosen, known, threads):
            reports.append(_write(writer, *matrix, known, chosen))
            counter.done(reports[-1].name)
        writer.close({"format": PACKED_FORMAT})
        write_json(
            folder / "config.json",
            packed_config(checkpoint.config, recipe.as_dict(), __version__, sources, folded=recipe.fold is not None),
        )
        keep_files(checkpoint, folder)
        write_checksums(folder)
        file_bytes = file.stat().st_size
    return CompressReport(
        path=str(out),
        recipe=recipe.as_dict(),
        tensors=reports,
        file_bytes=file_bytes,
        dense_bytes=dense_bytes,
        seconds=time.perf_counter() - start,
        sources=sources,
        notes=[*few, *slow, *_notes(recipe)],
    )


def _fitted(
    recipe: Recipe,
    architecture: Architecture,
    checkpoint: Checkpoint,
    ids: Sequence[Sequence[int]] | None,
    chosen: Mapping[str, Choice],
    threads: int,
    counter: _Counter,
) -> Compressed:
    """The matrices that are fitted to the calibration texts; none without texts, or where nothing needs them."""
    alpha = None if recipe.fold is None else recipe.fold.alpha
    static = recipe.quantize.activations == "static"
    needed = any(choice.pattern is not None or choice.compensated for choice in chosen.values())
    if ids is None or not (needed or static or alpha is not None):
        return Compressed()
    return compress_calibrated(
        architecture,
        checkpoint,
        ids,
        chosen,
        recipe.prune.correct,
        alpha,
        static,
        threads,
        counter.done,
        recipe.prune.weigh,
        recipe.seed,
    )


def _write(
    writer: SafetensorsWriter,
    tensor: Tensor,
    stored: Weight | np.ndarray,
    error: float,
    output_error: float | None,
    known: Compressed,
    chosen: Mapping[str, Choice],
) -> TensorReport:
    """Writes one tensor, and says what became of it."""
    if isinstance(stored, Weight):
        size, zeros = add_weight(writer, tensor.name, stored, known.limits.get(tensor.name)), stored.sparsity
    else:
        size, zeros = writer.add(tensor.name, stored), 1 - np.count_nonzero(stored) / max(1, stored.size)
    scheme = chosen[tensor.name].scheme if tensor.name in chosen else "none"
    return TensorReport(tensor.name, tensor.shape, tensor.role.value, float(zeros), size, error, output_error, scheme)


class _Counter:
    """Tells the progress, each name once."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._names: set[str] = set()

    def done(self, name: str) -> None:
        if name not in self._names:
            self._names.add(name)
            if self._progress is not None:
                self._progress(len(self._names), self._total, name)


def _too_few(recipe: Recipe, architecture: Architecture, ids: Sequence[Sequence[int]] | None) -> list[str]:
    """A sentence, and a warning, where much goes on little evidence: of fewer tokens than a layer has inputs the second
    moments, by which what is left makes up for what goes, are singular."""
    sparsity = max(recipe.prune.sparsity or 0.0, *recipe.prune.layers.values(), 0.0)
    if ids is None or sparsity <= BLIND or METHODS[str(recipe.prune.method)].needs != "gram":
        return []
    taken = sum(map(len, ids))
    widest = max(t.shape[1] for t in architecture.tensors() if t.role is Role.LINEAR)
    if taken >= widest:
        return []
    note = (
        f"CALIBRATED ON ONLY {taken} TOKENS: {sparsity:.0%} of the weights go, fitted to fewer tokens than the widest "
        f"layer has inputs ({widest}): expect a ruined model. Give at least {widest} tokens, better about {FEW_TEXTS} texts"
    )
    log.warning("calibration: %s", note)
    return [note]


def _structured(
    recipe: Recipe, checkpoint: Checkpoint, ids: Sequence[Sequence[int]] | None, threads: int
) -> Checkpoint:
    """The checkpoint without the channels, heads and layers that the recipe takes out."""
    if recipe.structure is None:
        return checkpoint
    if ids is None:
        return prune_structure(checkpoint, recipe.structure)
    return prune_on_texts(checkpoint, recipe.structure, ids, threads)


def _prunes(recipe: Recipe) -> bool:
    """Whether weights are to be removed from linear layers."""
    prune = recipe.prune
    return prune.threshold is not None or bool(prune.sparsity) or bool(prune.layers)


def _fits_heads(recipe: Recipe, architecture: Architecture, ids: Sequence[Sequence[int]] | None) -> bool:
    """Whether the linears behind the layers are fitted to what the pruned layers make."""
    prune = recipe.prune
    calibrated = ids is not None and METHODS[str(prune.method)].needs == "gram" and _prunes(recipe)
    return calibrated and prune.correct and prune.fit_heads and not architecture.generates


def _sparsities(
    recipe: Recipe,
    architecture: Architecture,
    checkpoint: Checkpoint,
    ids: Sequence[Sequence[int]] | None,
    threads: int,
) -> dict[str, float]:
    """The sparsity of every linear, by name."""
    own = own_sparsities(recipe, architecture.tensors())
    shared = [t for t in architecture.tensors() if t.role is Role.LINEAR and t.name not in own]
    prune = recipe.prune
    if prune.threshold is not None:
        found = {}
        for tensor in shared:
            found[tensor.name] = sparsity_below(np.abs(checkpoint.weight(tensor.name).dense()), prune.threshold)
        return {**found, **own}
    assert prune.sparsity is not None
    parse_pattern(prune.pattern).at(prune.sparsity)  # a shape with a sparsity of its own refuses another one here
    budgeted = budget(prune.budget)
    if prune.budget == "uniform" or not 0 < prune.sparsity < 1:
        return {**{t.name: prune.sparsity for t in shared}, **own}
    if budgeted.needs == "gram":
        if ids is None:
            raise RecipeError(
                f"prune.budget: {prune.budget} needs calibration texts (calibration.files, or --calibrate FILE)"
            )
        wanted = {t.name for t in shared}

        class Looking(Visitor):
            def visit(self, stack: Stack, inputs: Inputs) -> list[list[np.ndarray]]:
                weights = [checkpoint.weight(name).dense() for name in stack.names]
                if wanted.intersection(stack.names):
                    statistics = Statistics.over(inputs)
                    for name, weight in zip(stack.names, weights, strict=True):
                        if name in wanted:
                            budgeted.look(name, weight, statistics)
                return [weights]

        walk(architecture, checkpoint, ids, Looking(), threads)
    else:
        for tensor in shared:
            budgeted.look(tensor.name, checkpoint.weight(tensor.name).dense())
    return {**budgeted.share(prune.sparsity), **own}


def _overall(sparsities: Mapping[str, float], tensors: Sequence[Tensor]) -> float:
    """The fraction of all linear weights that goes."""
    sizes = {t.name: math.prod(t.shape) for t in tensors if t.name in sparsities}
    return sum(sparsities[name] * size for name, size in sizes.items()) / max(1, sum(sizes.values()))


def _in_order(
    checkpoint: Checkpoint,
    tensors: Sequence[Tensor],
    chosen: Mapping[str, Choice],
    known: Compressed,
    threads: int,
) -> Iterator[tuple[Tensor, Weight | np.ndarray, float, float | None]]:
    """Compressed tensors in their order; those that are not `known` yet are made here, `threads` + 1 of them at a time."""

    def work(tensor: Tensor) -> tuple[Tensor, Weight | np.ndarray, float, float | None]:
        try:
            if tensor.name in known.matrices:
                done = known.matrices[tensor.name]
                return tensor, done.weight, done.error, done.output_error
            if tensor.role is Role.KEPT:
                made = known.vectors.get(tensor.name)
                return tensor, checkpoint.array(tensor.name) if made is None else made, 0.0, None
            dense = checkpoint.weight(tensor.name).dense()
            stored = compress_matrix(dense, chosen[tensor.name])
            return tensor, stored, error_of(dense, stored.dense()), None
        except AerogelError as error:  # say which tensor it was
            if tensor.name in str(error) or tensor.label in str(error):
                raise
            raise type(error)(f"{tensor.name}: {error}") from error

    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="aerogel-compress")
    waiting: deque[Future[tuple[Tensor, Weight | np.ndarray, float, float | None]]] = deque()
    try:
        for tensor in tensors:
            if len(waiting) > threads:
                yield waiting.popleft().result()
            try:
                waiting.append(pool.submit(work, tensor))
            except RuntimeError as error:  # a limit of the system or of a container
                raise AerogelError(f"threads: the system starts none of {threads}: {error}") from error
        while waiting:
            yield waiting.popleft().result()
    finally:  # after Ctrl-C nobody waits for what the threads are at: each ends with the tensor that it has begun
        pool.shutdown(wait=False, cancel_futures=True)


def _sources(recipe: Recipe) -> dict[str, str]:
    """What has to be the same for the same result, besides the source and the recipe."""
    found = {"aerogel": __version__, "numpy": np.__version__}
    found.update(text_hashes(recipe.calibration.files, recipe.calibration.mix))
    return found


def _notes(recipe: Recipe) -> list[str]:
    """What the one who asked for it should know."""
    sparsity = recipe.prune.sparsity or 0
    if recipe.calibration.files or not sparsity:
        return []
    if sparsity > BLIND:
        return [
            f"{sparsity:.0%} of the weights went by magnitude alone: a model that was not pruned in training needs "
            "calibration texts (--calibrate FILE) or retraining (aerogel distill) to keep its quality."
        ]
    return [
        f"{sparsity:.0%} of the weights went by magnitude: with calibration texts (--calibrate FILE) more of the quality "
        "stays."
    ]

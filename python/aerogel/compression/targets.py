"""Compression to a target: the least sparsity that reaches a size or a latency, or the most that keeps a score."""

from __future__ import annotations

import dataclasses
import logging
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aerogel._util.fields import check_fields
from aerogel._util.partial import partial_folder
from aerogel._util.progress import Progress
from aerogel._util.units import megabytes
from aerogel.budget.bits import bits_of
from aerogel.checkpoint import Checkpoint
from aerogel.checkpoint.target import writing_model
from aerogel.compression.check import Checker
from aerogel.compression.latency import pack_to_latency
from aerogel.compression.pipeline import pack
from aerogel.compression.recipe import Calibration, Recipe
from aerogel.compression.report import CompressReport
from aerogel.compression.search import ATTEMPTS, HIGHEST, SLACK, at_sparsity, least
from aerogel.compression.texts import with_default_texts
from aerogel.errors import RecipeError
from aerogel.prune import cubic_steps, parse_pattern

log = logging.getLogger("aerogel")


@dataclass(frozen=True)
class Target:
    """What a compression is to reach; exactly one of the first three.

    Attributes:
        size: most bytes of model.safetensors.
        latency: most seconds of a forward pass of one sequence of `tokens` tokens, on this machine.
        drop: most of the source's score that may be lost, as a fraction.
        tokens: see `latency`.
        score: the score of a model's path, and whether lower is better; unless given, of a drop, the agreement with the
            source on the worst kind of text of those that calibration keeps aside, see `aerogel.compression.Check`.
        steps: sparsities that are tried on the way to a drop.
    """

    size: int | None = None
    latency: float | None = None
    drop: float | None = None
    tokens: int = 128
    score: tuple[Callable[[Path], float], bool] | None = None
    steps: int = 8

    def __post_init__(self) -> None:
        check_fields(self, "target: ", RecipeError)
        wanted = [value for value in (self.size, self.latency, self.drop) if value is not None]
        if len(wanted) != 1:
            raise RecipeError("target: expected one of size, latency and drop")
        if not 0 < wanted[0] < math.inf:
            raise RecipeError(f"target: expected a positive number, got {wanted[0]}")
        if self.tokens < 1 or self.steps < 1:
            raise RecipeError(f"target: expected at least one token and step, got {self.tokens} and {self.steps}")


def pack_to(
    checkpoint: Checkpoint,
    out: Path,
    recipe: Recipe,
    target: Target,
    threads: int | None,
    progress: Progress | None,
    overwrite: bool = False,
    rerank: str | None = None,
) -> CompressReport:
    """The least sparse model that reaches a size or latency, or the sparsest that keeps a score.

    Attempts are made beside `out`: what stands there stays until there is a model that reaches the target.

    Raises:
        RecipeError: the target is out of reach, and what is in reach; or the recipe leaves no sparsity to choose.
    """
    if recipe.prune.threshold is not None:
        raise RecipeError("target: chooses a sparsity, so prune.threshold cannot be given")
    if bits_of(recipe.quantize.weights) is not None:
        raise RecipeError(
            f"target: chooses a sparsity, with which quantize.weights: {recipe.quantize.weights} does not go"
        )
    parse_pattern(recipe.prune.pattern).at(0.5)  # a shape with a sparsity of its own has nothing to choose
    out.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(out) as work:
        found = work / "m"
        if target.size is not None:
            report = pack_to_size(checkpoint, found, recipe, target.size, threads, progress)
        elif target.latency is not None:
            report = pack_to_latency(checkpoint, found, recipe, target.latency, target.tokens, threads, progress)
        else:
            assert target.drop is not None
            score, lower = target.score or _agreement(checkpoint, recipe, threads, rerank)
            report = pack_to_drop(checkpoint, found, recipe, target.drop, score, lower, target.steps, threads, progress)
        with writing_model(out, overwrite) as place:
            for file in found.iterdir():
                file.rename(place / file.name)
    return dataclasses.replace(report, path=str(out))


def _agreement(
    checkpoint: Checkpoint, recipe: Recipe, threads: int | None, rerank: str | None
) -> tuple[Callable[[Path], float], bool]:
    """The score of a drop without data."""
    checker = Checker(checkpoint.path, with_default_texts(recipe, checkpoint).calibration, threads, rerank)
    return checker.value, checker.lower_is_better


def pack_to_size(
    checkpoint: Checkpoint, out: Path, recipe: Recipe, size: int, threads: int | None, progress: Progress | None
) -> CompressReport:
    """The least sparse model whose model.safetensors has at most `size` bytes.

    The sparsity is found by packing without calibration, which is fast and has nearly the same size; the real model is then
    packed, and again with a little more sparsity should it be too large.

    Raises:
        RecipeError: not even a sparsity of 0.98 is small enough; the message says what is reachable.
    """

    def estimate(sparsity: float) -> float:
        with tempfile.TemporaryDirectory(prefix="aerogel-size-") as folder:
            return pack(
                checkpoint, Path(folder) / "m", at_sparsity(_data_free(recipe), sparsity), threads=threads
            ).file_bytes

    floor = estimate(HIGHEST)
    if floor > size:
        raise RecipeError(
            f"target size: {megabytes(size)} is out of reach: {HIGHEST:.0%} sparse the file has {megabytes(int(floor))}, "
            "most of it embeddings and what else is not pruned; try a smaller scheme or --pack small"
        )
    sparsity = least(lambda s: estimate(s) <= size, lambda s: estimate(s) >= (1 - SLACK) * size)
    for _ in range(ATTEMPTS):
        report = pack(
            checkpoint, out, at_sparsity(recipe, sparsity), threads=threads, progress=progress, overwrite=True
        )
        if report.file_bytes <= size:
            return report
        sparsity = min(HIGHEST, 1 - (1 - sparsity) * (size / report.file_bytes) * (1 - SLACK))
    raise RecipeError(f"target size: expected at most {megabytes(size)}, got {megabytes(report.file_bytes)}")


def pack_to_drop(
    checkpoint: Checkpoint,
    out: Path,
    recipe: Recipe,
    drop: float,
    evaluate: Callable[[Path], float],
    lower_is_better: bool,
    steps: int,
    threads: int | None,
    progress: Progress | None,
) -> CompressReport:
    """The sparsest model whose score is at most `drop` (a fraction) worse than that of the source.

    Step by step: each model is sparser than the one before and is scored; the first one that drops too much ends the
    search, after some attempts between it and the last good one, which stays in `out`.

    Args:
        evaluate: the score of a model's folder or file.
        lower_is_better: as perplexity is.
        steps: how many sparsities from the recipe's up to 0.98 are tried at most.

    Raises:
        RecipeError: the first step already drops too much; nothing is written then.
    """
    dense = evaluate(checkpoint.path)
    tried: list[str] = []

    def attempt(sparsity: float) -> CompressReport | None:
        """Packs and scores one model; it takes the place of the last in `out` unless it drops too much."""
        with partial_folder(out) as folder:
            trial = folder / "m"
            report = pack(checkpoint, trial, at_sparsity(recipe, sparsity), threads=threads, progress=progress)
            score = evaluate(trial)
            lost = (score / dense - 1 if lower_is_better else 1 - score / dense) if dense else 0.0
            tried.append(f"{report.sparsity:.1%} sparse: {score:.4f}, {lost:+.2%} lost")
            log.info("%s", tried[-1])
            if lost > drop:
                return None
            with writing_model(out, overwrite=True) as place:
                for file in trial.iterdir():
                    file.rename(place / file.name)
        return dataclasses.replace(report, path=str(out))

    recipe = with_default_texts(recipe, checkpoint)
    if not recipe.calibration.files and recipe.prune.method is None:  # every step is scored: nothing goes unseen
        recipe = dataclasses.replace(recipe, prune=dataclasses.replace(recipe.prune, method="magnitude"))
    good = _sparsest(0.3 if recipe.prune.sparsity is None else recipe.prune.sparsity, steps, attempt)
    if good is None:
        raise RecipeError(
            f"max drop: {drop:.2%} is exceeded at once: {tried[0]} (dense {dense:.4f}); start from a lower --sparsity"
        )
    return dataclasses.replace(good, notes=[*good.notes, f"dense: {dense:.4f}", *tried])


def _sparsest(low: float, steps: int, attempt: Callable[[float], CompressReport | None]) -> CompressReport | None:
    """The last attempt that is good enough, on the way up from `low` and then between it and the first that is not."""
    good: CompressReport | None = None
    failed: float | None = None
    for sparsity in [low, *cubic_steps(low, HIGHEST, steps)]:
        report = attempt(sparsity)
        if report is None:
            failed = sparsity
            break
        good, low = report, sparsity
    for _ in range(2 if good is not None and failed is not None else 0):
        assert failed is not None
        middle = (low + failed) / 2
        report = attempt(middle)
        if report is None:
            failed = middle
        else:
            good, low = report, middle
    return good


def _data_free(recipe: Recipe) -> Recipe:
    return dataclasses.replace(
        recipe,
        calibration=Calibration(),
        fold=None,
        prune=dataclasses.replace(recipe.prune, method="magnitude", budget="uniform"),
        quantize=dataclasses.replace(recipe.quantize, rounding="nearest", activations="dynamic"),
    )

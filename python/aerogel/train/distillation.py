"""Distillation: a pruned student learns from the dense model on text without labels."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aerogel._util.checks import flag, function, instance
from aerogel._util.checks import path as as_path
from aerogel._util.version import __version__
from aerogel.architectures import pooling_of
from aerogel.checkpoint import Checkpoint, open_checkpoint
from aerogel.checkpoint.target import check_apart, check_target
from aerogel.errors import DataError, RecipeError, ShapeError
from aerogel.train import losses
from aerogel.train.at_once import prune_at_once
from aerogel.train.augment import Augmentation
from aerogel.train.batches import Batch, Sequences
from aerogel.train.corpus import Corpus, Tokens
from aerogel.train.device import place_of
from aerogel.train.loop import Loop, check_snapshot, prunes_at_once, threads
from aerogel.train.options import Options, Pruner, TrainReport
from aerogel.train.saving import save
from aerogel.train.schedule import Clock
from aerogel.train.teacher import Teacher
from aerogel.train.trainee import Outputs, Trainee, open_trainee
from aerogel.train.updates import Objective, Terms

#: Tokens of a language model's training sequence.
WINDOW = 256
#: The part of an encoder's texts that are replaced by others made of them.
AUGMENT = 0.75
#: Directions of its inputs' covariances that its steps are corrected for.
WHITEN = 16


def distill(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    texts: Iterable[Any],
    teacher: str | os.PathLike[str] | None = None,
    options: Options | None = None,
    prune: Pruner | None = None,
    resume: bool = False,
    report: Callable[[str], None] | None = None,
    overwrite: bool = False,
    column: str = "text",
) -> TrainReport:
    """Prunes a model and lets it learn to give what the dense one gives; writes it as a dense folder.

    It is pruned once before it learns, every layer fitted to the dense model's results on the texts; or with
    `options.stages` in so many steps while it learns, by `prune`.

    An encoder learns the hidden states of every layer and its pooled embeddings (after TinyBERT, arXiv 1909.10351), a
    classifier also the teacher's scores, a language model hidden states and the distribution of the next token. Which of
    these, and how much of each, `options` says. `aerogel.compress(out, packed, sparsity=0)` packs the result; with
    options.quant its rounding is what the last part of the training saw.

    Args:
        source: the student: any model that aerogel reads; zeros that it has stay.
        out: the folder to write: a new or an empty one, or see `overwrite`. A snapshot of the run is kept beside it, as
            `out`.snapshot, until the run is over.
        texts: sentences for an encoder; a language model takes them end to end. A list, or anything that can be iterated
            over, such as a `datasets.Dataset`: it is read once, and may be larger than memory (see `aerogel.train.corpus`).
        teacher: the dense model; `source` unless given.
        options: see Options; the budget is needed.
        prune: `(name, weight, sparsity) -> (weight, mask)`, called for every linear at every stage; with stages by
            magnitude unless given. One with a `prepare` method gets the statistics of the student's inputs before each stage
            (`aerogel.train.pruners.Calibrated`).
        resume: go on from the snapshot of a run that was interrupted. With a budget of steps the result is the same to
            the bit as without the interruption, on the same machine and threads.
        report: called with a line of progress every options.log_seconds.
        overwrite: as `aerogel.compress`. A run that is resumed may replace what it might when it began.
        column: where the texts are, if they come in mappings.

    Returns:
        What was done.

    Raises:
        RecipeError: the options contradict each other or the snapshot, or `out` may not be overwritten.
        AerogelError: a model or text is broken or not supported.
    """
    options, out = checked(options, out, prune, resume, report, overwrite)
    corpus = Corpus(texts, column, options.seed)
    Clock(options.steps, options.minutes)  # refuses a budget before work begins
    checkpoint = open_checkpoint(source)
    check_apart(checkpoint.path, out)
    with threads(options.threads):
        student = open_trainee(checkpoint, pooling_of(checkpoint))
        dense = open_checkpoint(teacher) if teacher is not None else checkpoint
        check_apart(dense.path, out)
        guide = open_trainee(dense, pooling_of(dense))
        _same_shape(student, guide)
        options = _whitening(checkpoint, student, options)
        options, alter = _augmentation(checkpoint, student, options)
        sequences = tokenize(checkpoint, student, corpus, options, out.parent)
        prepare(checkpoint, student, corpus.sample, options, prune, out, resume, report)
        objective = distilling(Teacher(dense, guide, sequences, options), options)
        recipe = {
            "task": "distill",
            "aerogel": __version__,
            "texts": len(sequences),
            "tokens": len(sequences.ids),
            **options.recipe(),
        }
        loop = Loop(student, sequences, objective, options, recipe, prune, snapshot_of(out), alter)
        loop.run(resume, report)
    return finish(checkpoint, loop, out, recipe, overwrite=overwrite or resume)


def checked(
    options: Options | None,
    out: str | os.PathLike[str],
    prune: object,
    resume: bool,
    report: object,
    overwrite: bool,
) -> tuple[Options, Path]:
    """What `distill` and `finetune` are given alike; raises RecipeError."""
    options = Options() if options is None else instance("options", options, Options, RecipeError)
    place = as_path("out", out, RecipeError)
    function("prune", prune, RecipeError)
    function("report", report, RecipeError)
    flag("resume", resume, RecipeError)
    check_target(place, overwrite or resume)
    place_of(options)  # refuses a device that is not here before work begins
    return options, place


def distilling(teacher: Teacher, options: Options) -> Objective:
    """The terms of the loss that the options give a weight and the models an output."""

    def objective(batch: Batch) -> Terms:
        target = teacher(batch)
        return lambda student: terms(student, target)

    def terms(student: Outputs, target: Outputs) -> dict[str, torch.Tensor]:
        found = {}
        if options.hidden:
            found["hidden"] = options.hidden * losses.match(student.hidden[1:], target.hidden)
        if options.attention:
            found["attention"] = options.attention * losses.match(student.attention, target.attention)
        if student.embedding is not None and target.embedding is not None:
            if options.embedding:
                found["embedding"] = options.embedding * losses.cosine(student.embedding, target.embedding)
            if options.relation:
                found["relation"] = options.relation * losses.relation(student.embedding, target.embedding)
        if options.logits and student.logits is not None and target.top is not None:
            found["logits"] = options.logits * losses.top_divergence(student.logits, target.top, options.temperature)
        elif options.logits and student.logits is not None and target.logits is not None:
            found["logits"] = options.logits * losses.divergence(student.logits, target.logits, options.temperature)
        if not found:
            raise RecipeError("losses: all of those that these models have outputs for have weight 0")
        return found

    return objective


def tokenize(checkpoint: Checkpoint, model: Trainee, corpus: Corpus, options: Options, folder: Path) -> Sequences:
    """The texts as token ids: one sequence each, or for a language model windows of all of them end to end, of one length.

    Tokens that are too many for memory are kept in a file in `folder`.
    """
    tokens, tokenizer = Tokens(folder), checkpoint.tokenizer()
    generates = model.architecture.generates
    limit = _limit(checkpoint, model, options)
    for texts in corpus.chunks():
        if generates:
            tokens.add(tokenizer.encode([text + "\n" for text in texts]))
        else:
            tokens.add([model.architecture.scored(row) for row in tokenizer.encode(texts, limit)])
    ids, lengths = tokens.arrays()
    if not len(lengths):
        raise DataError("texts: expected at least one that is not empty, got none")
    if not generates:
        return Sequences.of(ids, lengths)
    window = min(options.max_tokens or WINDOW, model.architecture.max_positions, len(ids))
    count = len(ids) // window
    return Sequences.of(ids[: count * window], np.full(count, window))


def _limit(checkpoint: Checkpoint, model: Trainee, options: Options) -> int:
    """The most tokens of a text."""
    limits = (options.max_tokens, checkpoint.max_tokens, model.architecture.max_positions)
    return min(limit for limit in limits if limit)


def _augmentation(checkpoint: Checkpoint, model: Trainee, options: Options) -> tuple[Options, Augmentation | None]:
    """The options with what `augment` comes to, and what alters the batches."""
    share = options.augment
    if share is None:
        share = AUGMENT if _embeds(checkpoint, model) else 0.0
    elif share and model.architecture.generates:
        raise RecipeError(f"augment: expected 0 for a language model, got {share}")
    alter = Augmentation.of(checkpoint.tokenizer(), share, _limit(checkpoint, model, options)) if share else None
    return replace(options, augment=share), alter


def _whitening(checkpoint: Checkpoint, model: Trainee, options: Options) -> Options:
    """The options with what `whiten` comes to."""
    if options.whiten is not None:
        return options
    return replace(options, whiten=WHITEN if _embeds(checkpoint, model) else 0)


def _embeds(checkpoint: Checkpoint, model: Trainee) -> bool:
    """Whether it is an encoder that learns embeddings."""
    architecture = model.architecture
    return not architecture.generates and checkpoint.pooling is not None and not architecture.labels


def prepare(
    checkpoint: Checkpoint,
    student: Trainee,
    texts: Sequence[str],
    options: Options,
    prune: Pruner | None,
    out: Path,
    resume: bool,
    report: Callable[[str], None] | None,
) -> None:
    """Prunes the student, unless that is done while it learns; a run that is resumed has the result in its snapshot."""
    check_snapshot(snapshot_of(out), resume)
    if resume or not prunes_at_once(options, prune):
        return
    began = time.monotonic()
    prune_at_once(checkpoint, student, texts, options)
    if report is not None:
        report(f"pruned, every layer fitted to the texts, in {time.monotonic() - began:.0f} s; now it learns")


def snapshot_of(out: Path) -> Path:
    """Where the snapshot of a run that writes `out` is."""
    return out.with_name(out.name + ".snapshot")


def finish(
    checkpoint: Checkpoint,
    loop: Loop,
    out: Path,
    recipe: dict[str, Any],
    config: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> TrainReport:
    """Writes the trained model and removes the snapshot; after a piece of a run there is only that."""
    done = TrainReport(str(out), loop.clock.step, loop.clock.elapsed, loop.tokens, loop.sparsity, loop.losses)
    if not loop.finished:
        return replace(done, path=str(snapshot_of(out)), finished=False)
    record = {
        "recipe": recipe,
        "lr": loop.rate,
        "steps": done.steps,
        "trained_tokens": done.tokens,
        "losses": done.losses,
    }
    save(checkpoint, loop.student.arrays(), out, record, config, overwrite)
    snapshot_of(out).unlink(missing_ok=True)
    return done


def _same_shape(student: Trainee, teacher: Trainee) -> None:
    ours, theirs = student.architecture, teacher.architecture
    for name in ("layers", "hidden_size", "vocab_size", "labels"):
        if getattr(ours, name, None) != getattr(theirs, name, None):
            raise ShapeError(
                f"teacher: {name}: expected {getattr(ours, name, None)} as the student has, "
                f"got {getattr(theirs, name, None)}"
            )

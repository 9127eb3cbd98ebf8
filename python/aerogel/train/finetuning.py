"""Fine-tuning on a labelled task, dense or pruned, with or without a teacher."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from aerogel._util.checks import array, shown
from aerogel._util.checks import texts as check_texts
from aerogel._util.version import __version__
from aerogel.architectures import family_of, pooling_of, saved_names
from aerogel.checkpoint import Checkpoint, open_checkpoint
from aerogel.checkpoint.target import check_apart
from aerogel.errors import DataError, RecipeError, ShapeError, UnsupportedModelError
from aerogel.train.batches import Batch
from aerogel.train.corpus import Corpus
from aerogel.train.distillation import checked, distilling, finish, prepare, snapshot_of, tokenize
from aerogel.train.loop import Loop, threads
from aerogel.train.options import Options, Pruner, TrainReport
from aerogel.train.schedule import Clock
from aerogel.train.teacher import Teacher
from aerogel.train.trainee import Outputs, Trainee, open_trainee
from aerogel.train.updates import Terms

#: A classifier has a row for each label up to the largest: more than this is no label but a mistake.
MOST_LABELS = 1 << 20


def finetune(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    texts: Sequence[str],
    labels: Sequence[int],
    teacher: str | os.PathLike[str] | None = None,
    options: Options | None = None,
    prune: Pruner | None = None,
    resume: bool = False,
    report: Callable[[str], None] | None = None,
    overwrite: bool = False,
) -> TrainReport:
    """Trains a classifier on labelled texts and writes it as a dense folder that Transformers loads.

    A source without a classifier gets its family's: of BERT the pooler it has (or a new one), and a new classifier over its
    first token. Families without one are refused.

    Args:
        source: an encoder or a classifier.
        out: as `distill`.
        texts: the inputs.
        labels: the class of each, from 0.
        teacher: a classifier to learn from besides: hidden states and scores.
        options: as `distill`; options.sparsity=0 trains the model as dense as it is.
        prune: as `distill`.
        resume: as `distill`.
        report: as `distill`.
        overwrite: as `distill`.

    Returns:
        What was done.

    Raises:
        DataError: as many labels as texts are needed, from 0 on.
        AerogelError: as `distill`.
    """
    options, out = checked(options, out, prune, resume, report, overwrite)
    if options.augment:
        raise RecipeError(f"augment: expected 0 where texts have labels, got {options.augment}")
    texts = check_texts("texts", texts)
    classes = _classes(texts, labels)
    Clock(options.steps, options.minutes)  # refuses a budget before work begins
    checkpoint = open_checkpoint(source)
    check_apart(checkpoint.path, out)
    with threads(options.threads):
        student, config = open_classifier(checkpoint, int(classes.max()) + 1, options.seed)
        student.dropout = options.dropout
        sequences = tokenize(checkpoint, student, Corpus(texts), options, out.parent)
        prepare(checkpoint, student, texts, options, prune, out, resume, report)
        from_teacher = None
        if teacher is not None:
            dense = open_checkpoint(teacher)
            check_apart(dense.path, out)
            guide = open_trainee(dense, pooling_of(dense))
            if guide.architecture.labels != student.architecture.labels:
                raise ShapeError(
                    f"teacher: expected a classifier of {student.architecture.labels} labels, "
                    f"got {guide.architecture.labels}"
                )
            from_teacher = distilling(Teacher(dense, guide, sequences, options), options)
        truth = torch.from_numpy(classes)

        def objective(batch: Batch) -> Terms:
            learned = None if from_teacher is None else from_teacher(batch)
            return lambda outputs: terms(outputs, truth[batch.index], {} if learned is None else learned(outputs))

        def terms(outputs: Outputs, classes: torch.Tensor, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            assert outputs.logits is not None
            if options.labels or not found:
                found["labels"] = (options.labels or 1.0) * F.cross_entropy(
                    outputs.logits.float(), classes.to(outputs.logits.device)
                )
            return found

        recipe: dict[str, Any] = {
            "task": "finetune",
            "aerogel": __version__,
            "texts": len(sequences),
            "tokens": len(sequences.ids),
            **options.recipe(),
        }
        loop = Loop(student, sequences, objective, options, recipe, prune, snapshot_of(out))
        loop.run(resume, report)
    return finish(checkpoint, loop, out, recipe, config, overwrite or resume)


def open_classifier(checkpoint: Checkpoint, labels: int, seed: int) -> tuple[Trainee, dict[str, Any]]:
    """The checkpoint as a classifier, and its config. What its head lacks is random: N(0, 0.02), biases 0, norms 1."""
    saved = saved_names(checkpoint.config)
    if saved is None or saved.classifier is None:
        raise UnsupportedModelError(
            f"{checkpoint.path}: fine-tuning: {checkpoint.config.get('model_type')!r} has no classifier that is trained here"
        )
    config = dict(checkpoint.config)
    if (config.get("architectures") or [""])[0] == saved.classifier:
        student = open_trainee(checkpoint)
        if student.architecture.labels < labels:
            raise DataError(f"labels: expected 0 to {student.architecture.labels - 1}, got {labels - 1}")
        return student, config
    config["architectures"] = [saved.classifier]
    config["id2label"] = {str(i): f"LABEL_{i}" for i in range(labels)}
    config["label2id"] = {f"LABEL_{i}": i for i in range(labels)}
    family = family_of(config)
    assert family is not None
    architecture = family(config, checkpoint.names(), None)
    head = {tensor.name for tensor in architecture.head.tensors()} if architecture.head is not None else set()
    checkpoint.require(t.name for t in architecture.tensors() if t.name not in head)
    student = Trainee(architecture)
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in student.named().items():
            shape = tuple(parameter.shape)
            if name in checkpoint and tuple(checkpoint.shape(name)) == shape:
                values = np.array(checkpoint.array(name), np.float32)
            elif len(shape) == 1:  # a bias, or the weight of a norm
                values = np.full(shape, float(name.endswith("weight")), np.float32)
            else:
                values = (0.02 * random.standard_normal(shape)).astype(np.float32)
            parameter.copy_(torch.from_numpy(values))
    return student, config


def _classes(texts: Sequence[str], labels: Sequence[int]) -> np.ndarray:
    classes = array("labels", labels, 1)
    if len(texts) != len(classes):
        raise DataError(f"labels: expected {len(texts)}, one for each text, got {len(classes)}")
    empty = next((i for i, text in enumerate(texts) if not text.strip()), None)
    if not len(texts) or empty is not None:
        raise DataError("texts: expected at least one, got none" if empty is None else f"text {empty}: is empty")
    if classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() > MOST_LABELS:
        raise DataError(f"labels: expected whole numbers from 0 to {MOST_LABELS}, got {classes.dtype}: {shown(labels)}")
    return classes.astype(np.int64)

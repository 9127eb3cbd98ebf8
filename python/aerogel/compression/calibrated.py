"""Compression with calibration texts: layer after layer, each fitted to what the compressed layers before it hand on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from aerogel.architectures import Architecture, Fold
from aerogel.calibrate import Stack, Statistics, walk
from aerogel.checkpoint import Checkpoint, Weight
from aerogel.compression.fold import divided_inputs, divided_rows, scale_of
from aerogel.compression.limit import limit_of
from aerogel.compression.matrix import Choice, compress_matrix, error_of
from aerogel.prune import corrected_target

@dataclass
class Done:
    """One compressed matrix with its errors, see `TensorReport`."""

    weight: Weight
    error: float
    output_error: float | None


@dataclass(frozen=True)
class Compressed:
    """What calibration has made.

    Attributes:
        matrices: by name.
        vectors: norms and biases that are no longer those of the source, by name.
        limits: of the inputs of linears that are integers, by the matrix's name, where scales are static; see `limit.py`.
    """

    matrices: dict[str, Done] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)


def compress_calibrated(
    architecture: Architecture,
    checkpoint: Checkpoint,
    sequences: Sequence[Sequence[int]],
    choices: Mapping[str, Choice],
    correct: bool,
    alpha: float | None,
    static: bool,
    threads: int,
    done: Callable[[str], None],
) -> Compressed:
    """The linears of a model; `done` is called with the name of each. `alpha`: scales are folded, see `fold.py`; `static`:
    inputs get limits, see `limit.py`.

    With `correct` the dense model runs along, and what is pruned is each layer's `corrected_target`: the weights that make its
    results of the compressed inputs closest to the dense model's.
    """
    folds = {fold.readers: fold for fold in architecture.folds()} if alpha is not None else {}
    visitor = _Compressing(checkpoint, choices, correct, folds, alpha or 0.0, static, done)
    walk(architecture, checkpoint, sequences, visitor, threads)
    return visitor.found


class _Compressing:
    def __init__(
        self,
        checkpoint: Checkpoint,
        choices: Mapping[str, Choice],
        correct: bool,
        folds: Mapping[tuple[str, ...], Fold],
        alpha: float,
        static: bool,
        done: Callable[[str], None],
    ) -> None:
        self.streams = 2 if correct else 1
        self.found = Compressed()
        self._checkpoint = checkpoint
        self._choices = choices
        self._folds = folds
        self._alpha = alpha
        self._static = static
        self._done = done

    def visit(self, stack: Stack, inputs: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        dense = [self._checkpoint.weight(name).dense() for name in stack.names]
        fold = self._folds.get(stack.names)
        fitted = [name for name in stack.names if self._is_fitted(name)]
        statistics = Statistics.of(inputs[-1]) if fitted or fold else None
        targets = dense
        if fitted and statistics is not None and inputs[0] is not inputs[-1]:
            cross = inputs[0].T @ inputs[-1] / np.float32(len(inputs[0]))
            targets = [corrected_target(weight, statistics.gram, cross) for weight in dense]
        s = None
        if fold is not None and statistics is not None:
            s = self._fold(fold, targets, statistics)
            statistics = divided_inputs(statistics, s)
            targets = [target * s for target in targets]
        used = []
        for name, weight, target in zip(stack.names, dense, targets, strict=True):
            stored = compress_matrix(target, self._choices[name], statistics if name in fitted else None)
            kept = stored.dense()
            used.append(kept if s is None else kept / s)
            if name not in self.found.matrices:  # a head may be tied to the embeddings, or used twice
                output_error = None if statistics is None else output_error_of(target, kept, statistics)
                self.found.matrices[name] = Done(stored, error_of(weight, used[-1]), output_error)
                self._done(name)
        if self._static:
            self._limit(stack.names, inputs[-1], s)
        for name in stack.names:
            self._checkpoint.release(name)
        return [dense, used] if self.streams == 2 else [used]

    def _fold(self, fold: Fold, weights: Sequence[np.ndarray], statistics: Statistics) -> np.ndarray:
        """Divides what makes the input; returns by what, float32 [K]."""
        s = scale_of(fold, weights, statistics, self._alpha)
        for name in fold.makers:
            made = self.found.matrices.get(name)
            if made is not None:
                made.weight = divided_rows(made.weight, s)
            else:
                self.found.vectors[name] = self.found.vectors.get(name, self._checkpoint.array(name)) / s
        return s if fold.columns is None else s[fold.columns]

    def _limit(self, names: Sequence[str], x: np.ndarray, s: np.ndarray | None) -> None:
        integers = [name for name in names if self.found.matrices[name].weight.numbers == "int8"]
        limit = limit_of(x, s) if integers else None
        for name in integers if limit is not None else ():
            self.found.limits[name] = max(limit, self.found.limits.get(name, 0.0))

    def _is_fitted(self, name: str) -> bool:
        choice = self._choices[name]
        return choice.pattern is not None or choice.compensated


def output_error_of(target: np.ndarray, stored: np.ndarray, statistics: Statistics) -> float:
    """|x target - x stored| / |x target| over the calibration texts."""
    lost = target - stored
    whole = float(np.einsum("nk,nk->", target @ statistics.gram, target, dtype=np.float64))
    gone = float(np.einsum("nk,nk->", lost @ statistics.gram, lost, dtype=np.float64))
    return float(np.sqrt(max(gone, 0.0) / whole)) if whole > 0 else 0.0

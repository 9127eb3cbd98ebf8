"""Compression with calibration texts: layer after layer, each fitted to what the compressed layers before it hand on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from aerogel.architectures import Architecture, Tensor
from aerogel.calibrate import Stack, Statistics, walk
from aerogel.checkpoint import Checkpoint, Weight
from aerogel.compression.matrix import Choice, compress_matrix, error_of

#: What the texts are believed less than the weights, as a share of the inputs' mean square: directions that the texts hardly
#: use keep their weights.
RIDGE = 0.01


class Done:
    """One compressed matrix with its errors, see `TensorReport`."""

    def __init__(self, weight: Weight, error: float, output_error: float | None) -> None:
        self.weight = weight
        self.error = error
        self.output_error = output_error


def compress_calibrated(
    architecture: Architecture,
    checkpoint: Checkpoint,
    sequences: Sequence[Sequence[int]],
    choices: Mapping[str, Choice],
    correct: bool,
    threads: int,
    done: Callable[[str], None],
) -> dict[str, Done]:
    """The linears of a model, by name; `done` is called with the name of each.

    With `correct` the dense model runs along, and each matrix W is first replaced by the one that makes its results of
    the compressed inputs x' closest to those of the dense inputs x:

        W' = argmin |W x - W' x'|^2 + r |W - W'|^2 = W (x x'^T + r) (x' x'^T + r)^-1
    """
    visitor = _Compressing(checkpoint, choices, correct, done)
    walk(architecture, checkpoint, sequences, visitor, threads)
    return visitor.results


class _Compressing:
    def __init__(
        self, checkpoint: Checkpoint, choices: Mapping[str, Choice], correct: bool, done: Callable[[str], None]
    ) -> None:
        self.streams = 2 if correct else 1
        self.results: dict[str, Done] = {}
        self._checkpoint = checkpoint
        self._choices = choices
        self._done = done

    def visit(self, stack: Stack, inputs: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        dense = [self._checkpoint.weight(name).dense() for name in stack.names]
        fitted = [name for name in stack.names if self._is_fitted(name)]
        statistics = Statistics.of(inputs[-1]) if fitted else None
        drift = None
        if statistics is not None and inputs[0] is not inputs[-1]:
            drift = correction(inputs[0], inputs[-1], statistics)
        used = []
        for name, weight in zip(stack.names, dense, strict=True):
            target = weight if drift is None else weight @ drift
            if drift is not None:
                target[weight == 0] = 0  # what is pruned already stays so
            stored = compress_matrix(target, self._choices[name], statistics if name in fitted else None)
            used.append(stored.dense())
            if name not in self.results:  # a head may be tied to the embeddings, or used twice
                output_error = None if statistics is None else output_error_of(target, used[-1], statistics)
                self.results[name] = Done(stored, error_of(weight, used[-1]), output_error)
                self._done(name)
        for name in stack.names:
            self._checkpoint.release(name)
        return [dense, used] if self.streams == 2 else [used]

    def _is_fitted(self, name: str) -> bool:
        choice = self._choices[name]
        return choice.pattern is not None or choice.compensated


def correction(dense: np.ndarray, compressed: np.ndarray, statistics: Statistics) -> np.ndarray:
    """The matrix [K,K] that `compress_calibrated` multiplies weights by.

    Args:
        dense: float32 [tokens, K], the inputs in the dense model.
        compressed: the same where the layers before are compressed.
        statistics: of `compressed`.
    """
    ridge = RIDGE * float(statistics.gram.diagonal().mean()) or 1.0
    identity = np.eye(statistics.inputs, dtype=np.float32)
    cross = dense.T @ compressed / np.float32(len(dense))
    solved = np.linalg.solve((statistics.gram + ridge * identity).astype(np.float64), (cross + ridge * identity).T)
    return np.ascontiguousarray(solved.T, np.float32)


def output_error_of(target: np.ndarray, stored: np.ndarray, statistics: Statistics) -> float:
    """|x target - x stored| / |x target| over the calibration texts."""
    lost = target - stored
    whole = float(np.einsum("nk,nk->", target @ statistics.gram, target, dtype=np.float64))
    gone = float(np.einsum("nk,nk->", lost @ statistics.gram, lost, dtype=np.float64))
    return float(np.sqrt(max(gone, 0.0) / whole)) if whole > 0 else 0.0

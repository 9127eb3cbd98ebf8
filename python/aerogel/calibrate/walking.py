"""Walking through a model: calibration texts go through all of its ops, and a visitor sees the linears."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aerogel._util.checks import thread_count
from aerogel._util.workers import workers
from aerogel.calibrate.eager import Eager, EagerParameters
from aerogel.calibrate.texts import token_sequences
from aerogel.calibrate.values import Value, blocks_of
from aerogel.calibrate.visitor import Inputs, Stack, Visitor

if TYPE_CHECKING:
    from aerogel.architectures import Architecture
    from aerogel.checkpoint import Checkpoint


def walk(
    architecture: Architecture,
    checkpoint: Checkpoint,
    sequences: Sequence[Sequence[int]],
    visitor: Visitor,
    threads: int | None = None,
) -> dict[str, Value | None]:
    """Runs all `sequences` through the model; `visitor` sees each linear once, in the order of computation.

    A linear that is run more than once is visited where it is run first. A visitor that `sees_again` has been shown before
    what the dense model's reads where it is run again.

    Returns the model's outputs (None: scores over a vocabulary, which are not computed). Memory: three values of [all
    tokens, hidden size], float32, for each stream, the model at most for a wider one, and some blocks.

    Raises:
        DataError: a token is outside the vocabulary, or a sequence is empty or longer than the model's positions.
    """
    count = thread_count(threads)
    rows = token_sequences(sequences, architecture.max_positions)
    tensors = {tensor.name: tensor for tensor in architecture.tensors()}
    shared = {stack for stack, uses in Counter(architecture.stacks()).items() if uses > 1}
    blocks, parameters = blocks_of(rows), EagerParameters(checkpoint, tensors)
    with workers(count):
        if shared and visitor.sees_again:
            architecture.build(Eager(checkpoint, blocks, _Again(checkpoint, visitor), tensors), parameters)
        eager = Eager(checkpoint, blocks, visitor, tensors, shared)
        architecture.build(eager, parameters)
    return eager.outputs


class _Again(Visitor):
    """Shows another visitor the linears that were run before."""

    def __init__(self, checkpoint: Checkpoint, visitor: Visitor) -> None:
        self._checkpoint, self._visitor = checkpoint, visitor
        self._known: set[tuple[str, ...]] = set()

    def visit(self, stack: Stack, inputs: Inputs) -> list[list[np.ndarray]]:
        if stack.names in self._known:
            self._visitor.also(stack, inputs)
        self._known.add(stack.names)
        return [[self._checkpoint.weight(name).dense() for name in stack.names]]

"""Whole layers: which of them do least, and the model without them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aerogel._core import Plan, Program, Session
from aerogel._util.checks import instance, thread_count
from aerogel.architectures import Architecture, architecture_of
from aerogel.calibrate.texts import token_sequences
from aerogel.checkpoint import Checkpoint
from aerogel.engine.weights import PackedParameters
from aerogel.structure.smaller import Piece, Smaller
from aerogel.structure.widths import without_layers
from aerogel.tuning import Tuner

#: Tokens that go through the model at once.
BATCH_TOKENS = 2048


def remove_layers(checkpoint: Checkpoint, architecture: Architecture, kept: Sequence[int]) -> Smaller:
    """The checkpoint with only the layers `kept`, counted anew."""
    config = without_layers(architecture, checkpoint.config, kept)
    names = source_names(architecture, kept)
    return Smaller(checkpoint, config, {name: Piece(source, {}) for name, source in names.items()})


def source_names(architecture: Architecture, kept: Sequence[int]) -> dict[str, str]:
    """The tensors of the model with only the layers `kept`, and what they were called in the whole one."""
    names = [tensor.name for tensor in architecture.tensors()]
    prefixes = [architecture.prefix(i) for i in range(architecture.layers)]
    found = {name: name for name in names if not name.startswith(tuple(prefixes))}
    for new, old in enumerate(kept):
        begin = architecture.prefix(new)
        found.update({begin + n[len(prefixes[old]) :]: n for n in names if n.startswith(prefixes[old])})
    return found


def layer_weights(checkpoint: Checkpoint, architecture: Architecture) -> np.ndarray:
    """float64 [layers]: the sum of the absolute weights of each. A poor guide: see `influence`."""
    names = [tensor.name for tensor in architecture.tensors()]
    sums = np.zeros(architecture.layers)
    for i in range(architecture.layers):
        for name in names:
            if name.startswith(architecture.prefix(i)):
                sums[i] += np.abs(checkpoint.array(name)).sum(dtype=np.float64)
    return sums


def influence(checkpoint: Checkpoint, sequences: Sequence[Sequence[int]], threads: int | None = None) -> np.ndarray:
    """float64 [layers]: how far each layer turns the hidden states (ShortGPT's block influence, arXiv 2403.03853).

        influence[i] = 1 - mean over tokens of cos(h_i, h_i+1)        h_i: what enters layer i

    Args:
        checkpoint: of the whole model.
        sequences: token ids of calibration text.
        threads: of the run; the machine's cores unless given.
    """
    architecture = architecture_of(instance("checkpoint", checkpoint, Checkpoint))
    rows = token_sequences(sequences, architecture.max_positions)
    architecture.trace = True
    program = Program()
    threads = thread_count(threads)
    tuner = Tuner(threads, False)
    with PackedParameters(checkpoint, architecture.tensors(), tuner, "dense") as weights:
        weights.prepare(architecture.stacks())
        architecture.build(program, weights)
    session = Session(Plan(program, threads))
    cosines, tokens = np.zeros(architecture.layers), 0
    for batch in _batches(rows):
        ids = np.concatenate(batch)
        ends = np.concatenate(([0], np.cumsum([len(sequence) for sequence in batch]))).astype(np.int64)
        before = _unit(session.run(ids, ends, "residual.0"))
        for i in range(architecture.layers):
            after = _unit(session.run(ids, ends, f"residual.{i + 1}"))
            cosines[i] += np.vdot(before, after)
            before = after
        tokens += len(ids)
    return 1 - cosines / tokens


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    unit: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    return unit


def _batches(sequences: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    found: list[list[np.ndarray]] = [[]]
    tokens = 0
    for sequence in sequences:
        if found[-1] and tokens + len(sequence) > BATCH_TOKENS:
            found.append([])
            tokens = 0
        found[-1].append(sequence)
        tokens += len(sequence)
    return found

"""By how much errors of the results of a model's linears move its output: estimated on some of the calibration texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np

from aerogel._util.workers import side_by_side
from aerogel.calibrate.eager import EagerParameters
from aerogel.calibrate.gradients import show_gradients
from aerogel.calibrate.texts import token_sequences
from aerogel.calibrate.values import Block, blocks_of

if TYPE_CHECKING:
    from aerogel.architectures import Architecture
    from aerogel.checkpoint import Checkpoint

#: Tokens that are looked at.
TOKENS = 4096
#: Of a linear with more results than this there is the diagonal only.
MOST_ROWS = 2048
#: Tokens of a sequence that are looked at where single weights are: more texts.
PIECE = 256
#: Tokens of a block: what all ops have made of it is in memory.
BLOCK = 512


def moves_of(
    architecture: Architecture,
    checkpoint: Checkpoint,
    sequences: Sequence[Sequence[int]],
    wanted: Set[str],
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """By how much an error of each linear's results moves what the dense model gives: mean g g^T, see `gradients.py`.

    Args:
        architecture, checkpoint: the model.
        sequences: token ids; as many as have TOKENS tokens, from all over, are run.
        wanted: the matrices that are asked for.
        seed: of what is drawn.

    Returns:
        By name, float32 [N, N], or [N], its diagonal alone, where N is above MOST_ROWS. Those are missing that the output
        does not depend on.
    """
    chosen, taken = _some(architecture, sequences, TOKENS, seed)

    def term(x: np.ndarray, g: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.square(g).sum(axis=0) if g.shape[1] > MOST_ROWS else g.T @ g
        return found

    return _means(architecture, checkpoint, chosen, taken, wanted, seed, term)


def squares_of(
    architecture: Architecture,
    checkpoint: Checkpoint,
    sequences: Sequence[Sequence[int]],
    wanted: Set[str],
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """By how much an error of each single weight moves what the dense model gives: mean g^2 x^2, the diagonal of Fisher's
    information if tokens are independent. An error E of a matrix, as random as that of rounding, moves the output by about
    sum E^2 mean g^2 x^2; half of that is the KL divergence of a language model's next-token distributions, in nats.

    Args: see `moves_of`. The beginnings of sequences are run: language models do much with the first token, and little of
        what they do changes further on.

    Returns:
        By name, float32 [N, K]: as much memory as the matrices in float32. Those are missing that the output does not
        depend on.
    """
    chosen, taken = _some(architecture, [sequence[:PIECE] for sequence in sequences], TOKENS // 2, seed)

    def term(x: np.ndarray, g: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.square(g).T @ np.square(x)
        return found

    return _means(architecture, checkpoint, chosen, taken, wanted, seed, term)


def _means(
    architecture: Architecture,
    checkpoint: Checkpoint,
    chosen: Sequence[np.ndarray],
    taken: int,
    wanted: Set[str],
    seed: int,
    term: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> dict[str, np.ndarray]:
    """The mean over `taken` tokens of the term of each wanted matrix's inputs and of the gradients of its results."""
    tensors = {tensor.name: tensor for tensor in architecture.tensors()}
    weights = EagerParameters(checkpoint, tensors)

    def of_block(numbered: tuple[int, Block]) -> list[tuple[str, np.ndarray]]:
        terms: list[tuple[str, np.ndarray]] = []

        def see(names: tuple[str, ...], x: np.ndarray, g: np.ndarray) -> None:
            ends = np.cumsum([tensors[name].shape[0] for name in names])[:-1]
            for name, part in zip(names, np.split(g, ends, axis=1), strict=True):
                if name in wanted:
                    terms.append((name, term(x, part)))

        number, block = numbered
        show_gradients(architecture.build, block, weights, (seed, number), see)
        return terms

    found: dict[str, np.ndarray] = {}
    for terms in side_by_side(of_block, enumerate(blocks_of(chosen, BLOCK))):
        for name, term_ in terms:
            if name in found:
                found[name] += term_
            else:
                found[name] = term_
    for sum_ in found.values():
        sum_ /= np.float32(taken)
    return found


def _some(
    architecture: Architecture, sequences: Sequence[Sequence[int]], tokens: int, seed: int
) -> tuple[list[np.ndarray], int]:
    """Sequences from all over, at least one, of as many tokens at most, and how many tokens they have."""
    rows = token_sequences(sequences, architecture.max_positions)
    chosen, taken = [], 0
    for i in np.random.default_rng(seed).permutation(len(rows)):
        if taken and taken + len(rows[i]) > tokens:
            break
        chosen.append(rows[i])
        taken += len(rows[i])
    return chosen, taken

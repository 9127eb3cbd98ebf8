"""A linear behind the pooling of a pruned encoder, fitted to give the dense model's embeddings.

What pruning does to embeddings is to a good part linear: directions shrink, and mix. A matrix as wide as the embedding makes
up for that, costs one product a *text* where every layer costs several a token, and is an ordinary Dense module of
sentence-transformers. It begins as the identity and is fitted as every other linear is, by `corrected_target`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from aerogel.architectures import Architecture, Dense, Normalize, Pooling, is_table
from aerogel.checkpoint import Checkpoint, Weight
from aerogel.checkpoint.derived import Derived
from aerogel.checkpoint.sentence_modules import STEP
from aerogel.checkpoint.weight import check_matrix

#: Texts for each number of an embedding: with fewer the fit gains nothing.
TEXTS_A_NUMBER = 2


def with_output_step(checkpoint: Checkpoint, architecture: Architecture, texts: int) -> Checkpoint:
    """The checkpoint with an identity behind its pooling, to be fitted on so many texts.

    As it is where that has no place: without a pooling, where a linear ends the embedding already (which is fitted then),
    or where there are too few texts.
    """
    pooling = checkpoint.pooling
    if pooling is None or is_table(checkpoint.config) or architecture.generates:
        return checkpoint
    last = next((step for step in reversed(pooling.steps) if not isinstance(step, Normalize)), None)
    width = pooling.width(architecture.hidden_size)
    if (isinstance(last, Dense) and last.activation is None) or texts < TEXTS_A_NUMBER * width:
        return checkpoint
    return _WithOutputStep(checkpoint, pooling, width)


class _WithOutputStep(Derived):
    def __init__(self, source: Checkpoint, pooling: Pooling, width: int) -> None:
        name = STEP.format(sum(not isinstance(step, Normalize) for step in pooling.steps))
        step = Dense(name, width, width, bias=True, activation=None)
        self._pooling = dataclasses.replace(pooling, steps=(*pooling.steps, step))
        self._added: dict[str, NDArray[np.float32]] = {
            f"{name}.weight": np.eye(width, dtype=np.float32),
            f"{name}.bias": np.zeros(width, np.float32),
        }
        super().__init__(source, source.config, [*source.names(), *self._added])

    @property
    def pooling(self) -> Pooling:
        return self._pooling

    def shape(self, name: str) -> tuple[int, ...]:
        return self._added[name].shape if name in self._added else self._source.shape(name)

    def array(self, name: str) -> NDArray[np.float32]:
        return self._added[name] if name in self._added else self._source.array(name)

    def weight(self, name: str) -> Weight:
        if name not in self._added:
            return self._source.weight(name)
        return Weight(check_matrix(name, self.shape(name)), self._added[name])

    def input_limit(self, name: str) -> float | None:
        return None if name in self._added else self._source.input_limit(name)

"""A teacher on the CPU: the dense model in the engine, with int8 weights, which takes a fraction of what PyTorch needs.

What it gives is off by the rounding of weights and activations: MiniLM's hidden states by .001 (first layer) to .006
(last) of their variance, with a cosine of .997 of embeddings, where a student with 80 % zeros begins at .79.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from aerogel._core import Plan, Program, Session
from aerogel.architectures import architecture_of, pooling_of
from aerogel.architectures.pooling import add_pooling
from aerogel.checkpoint import Checkpoint
from aerogel.engine.weights import PackedParameters
from aerogel.train.batches import Batch
from aerogel.train.program import Ragged, RaggedParameters
from aerogel.train.trainee import Outputs, Trainee
from aerogel.tuning import Tuner

#: The output that has the hidden states behind every layer side by side, [T, layers * H].
_STATES = "states"
#: What a head gives, under the name of it, the first that there is.
_HEADS = ("scores", "logits")


class EngineTeacher:
    """Gives the Outputs of batches, but for the attention's.

    Args:
        checkpoint: the dense model, which is rounded while it is read unless it is a packed one.
        model: the same in PyTorch: pools the hidden states.
        threads: of the engine.
    """

    def __init__(self, checkpoint: Checkpoint, model: Trainee, threads: int) -> None:
        architecture = architecture_of(checkpoint, pooling_of(checkpoint))
        architecture.trace = True
        self._model, self._layers = model, architecture.layers
        program = _Collected()
        quant = None if checkpoint.kind == "packed" else "int8"
        with PackedParameters(
            checkpoint, architecture.tensors(), Tuner(threads, False), "dense", quant=quant
        ) as weights:
            weights.prepare(architecture.stacks())
            architecture.build(program, weights)
        self._head = program.declare(self._layers)
        self._session = Session(Plan(program, threads, attention="auto"))

    def __call__(self, batch: Batch) -> Outputs:
        """hidden: those behind every layer, without the embeddings'."""
        ids = batch.ids.numpy().astype(np.int32)
        offsets = np.concatenate(([0], np.cumsum(batch.counts))).astype(np.int64)
        states = torch.from_numpy(self._session.run(ids, offsets, _STATES))
        outputs = Outputs(list(states.chunk(self._layers, dim=1)))
        if self._head is not None:
            outputs.logits = torch.from_numpy(self._session.run(ids, offsets, self._head))
        if self._model.architecture.pooling is not None:
            named = self._model.named()
            pooled = Ragged(batch, named, lambda x: x, frozenset())
            add_pooling(pooled, RaggedParameters(named), outputs.hidden[-1], self._model.architecture.pooling)
            outputs.embedding = pooled.outputs["pooled"]
        return outputs


class _Collected(Program):
    """A program whose outputs are declared at its end: one pass computes what one output needs."""

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[str, Any] = {}

    def output(self, name: str, x: int) -> None:
        self._found[name] = x

    def declare(self, layers: int) -> str | None:
        """The hidden states as one output, and the head's; returns the name of that, if there is one."""
        hidden = [self._found[f"residual.{layer}"] for layer in range(1, layers)] + [self._found["hidden"]]
        super().output(_STATES, self.join(hidden, [0] * layers))
        head = next((name for name in _HEADS if name in self._found), None)
        if head is not None:
            super().output(head, self._found[head])
        return head

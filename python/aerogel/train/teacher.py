"""The teacher's outputs for the batches of a run: computed once and kept, where they fit, or in every step."""

from __future__ import annotations

import logging
import time

import numpy as np
import torch

from aerogel.train.batches import Batch, Sequences
from aerogel.train.options import Options
from aerogel.train.trainee import Outputs, Trainee

log = logging.getLogger("aerogel")

#: A training step costs about four forward passes: the teacher's, and the student's with its backward pass.
_STEP = 4


class Teacher:
    """Gives the teacher's Outputs of a batch; hidden states are those after each layer, without the embeddings'.

    Kept hidden states are float16, which loses 2^-11 of a target. They are computed in an order that depends on the data
    alone, so that a resumed run sees the same.
    """

    def __init__(self, model: Trainee, sequences: Sequences, options: Options) -> None:
        self._model = model.eval().requires_grad_(False)
        self._sequences = sequences
        self._hidden, self._attention = options.hidden > 0, options.attention > 0
        self._embedding: torch.Tensor | None = None
        self._logits: torch.Tensor | None = None
        self._kept: dict[str, list[np.ndarray]] = {}
        self.cached = self._fits(options) and self._pays(options)
        if self.cached:
            self._fill(options.batch_tokens)

    def __call__(self, batch: Batch) -> Outputs:
        if not self.cached:
            return self._run(batch)
        offsets, outputs = self._sequences.offsets, Outputs()
        rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in batch.index.numpy()])
        for name, layers in self._kept.items():
            setattr(outputs, name, [torch.from_numpy(layer[rows]).float() for layer in layers])
        outputs.embedding = None if self._embedding is None else self._embedding[batch.index]
        outputs.logits = None if self._logits is None else self._logits[batch.index]
        return outputs

    def _run(self, batch: Batch) -> Outputs:
        with torch.no_grad():
            outputs: Outputs = self._model(batch, attention=self._attention) if self._attention else self._model(batch)
        outputs.hidden = outputs.hidden[1:] if self._hidden else []
        return outputs

    def _fits(self, options: Options) -> bool:
        architecture = self._model.architecture
        if "logits" in architecture.outputs:  # as wide as the vocabulary
            return False
        layers = getattr(architecture, "layers", 0) * (int(self._hidden) + int(self._attention))
        return 2 * len(self._sequences.ids) * layers * architecture.hidden_size <= options.cache_bytes

    def _pays(self, options: Options) -> bool:
        """Whether the run will see each text at least once."""
        tokens = len(self._sequences.ids)
        if options.steps is not None and options.steps * options.batch_tokens < tokens:
            return False
        if options.minutes is None:
            return True
        batches = self._sequences.by_length(options.batch_tokens)
        batch = self._sequences.batch(batches[len(batches) // 2])
        self._run(batch)
        start = time.perf_counter()
        self._run(batch)
        pass_seconds = (time.perf_counter() - start) * tokens / len(batch.ids)
        return 60 * options.minutes >= _STEP * pass_seconds

    def _fill(self, batch_tokens: int) -> None:
        start, tokens = time.perf_counter(), len(self._sequences.ids)
        offsets = self._sequences.offsets
        for index in self._sequences.by_length(batch_tokens):
            outputs = self._run(self._sequences.batch(index))
            rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in index])
            for name in ("hidden", "attention"):
                layers = getattr(outputs, name)
                if layers and name not in self._kept:
                    self._kept[name] = [np.empty((tokens, layer.shape[1]), np.float16) for layer in layers]
                for kept, layer in zip(self._kept.get(name, ()), layers, strict=True):
                    kept[rows] = layer.numpy()
            for name in ("embedding", "logits"):
                value = getattr(outputs, name)
                if value is None:
                    continue
                if getattr(self, "_" + name) is None:
                    setattr(self, "_" + name, torch.empty(len(self._sequences), value.shape[1]))
                getattr(self, "_" + name)[torch.from_numpy(index)] = value
        log.info("the teacher's outputs of %d tokens are kept (%.0f s)", tokens, time.perf_counter() - start)

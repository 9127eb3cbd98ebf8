"""The teacher's outputs for the batches of a run: computed once and kept, where they fit and recur, or in every step."""

from __future__ import annotations

import logging
import time

import numpy as np
import torch

from aerogel._core import default_threads
from aerogel.checkpoint import Checkpoint
from aerogel.train.batches import Batch, Sequences
from aerogel.train.device import place_of
from aerogel.train.engine_teacher import EngineTeacher
from aerogel.train.losses import Top, top_of
from aerogel.train.options import Options
from aerogel.train.trainee import Outputs, Trainee

log = logging.getLogger("aerogel")

#: A training step costs about four forward passes: the teacher's, and the student's with its backward pass.
_STEP = 4
#: Bytes that a kept token of the distribution takes: its number and its probability.
_TOP_BYTES = 6


class Teacher:
    """Gives the teacher's Outputs of a batch; hidden states are those after each layer, without the embeddings'. Of a
    language model's logits the most likely tokens are left, as options.top_logits says.

    What is kept of hidden states and probabilities is float16, which loses 2^-11 of a target. It is computed in an order
    that depends on the data alone, so that a resumed run sees the same.

    Args:
        checkpoint: the dense model.
        model: the same in PyTorch.
        sequences: the data.
        options: of the run; what its losses do not need is not computed.
    """

    def __init__(self, checkpoint: Checkpoint, model: Trainee, sequences: Sequences, options: Options) -> None:
        self._place = place_of(options)
        self._model = model.to(self._place.device).eval().requires_grad_(False)
        self._engine: EngineTeacher | None = None
        if options.teacher == "int8" and self._place.device.type == "cpu" and not options.attention:
            self._engine = EngineTeacher(checkpoint, self._model, options.threads or default_threads())
        self._sequences = sequences
        self._hidden, self._attention = options.hidden > 0, options.attention > 0
        generates = "logits" in model.architecture.outputs
        self._top = min(options.top_logits, model.architecture.vocab_size) if generates and options.logits else 0
        self._whole = generates and options.logits > 0 and not self._top  # logits, as wide as the vocabulary
        self._temperature = options.temperature
        self._embedding: torch.Tensor | None = None
        self._logits: torch.Tensor | None = None
        self._kept: dict[str, list[np.ndarray]] = {}
        self.cached = not options.augment and self._fits(options) and self._pays(options)
        if self.cached:
            self._fill(options.batch_tokens)

    def __call__(self, batch: Batch) -> Outputs:
        """What the teacher gives for a batch, on the student's device."""
        if not self.cached:
            return self._run(batch)
        offsets, outputs, device = self._sequences.offsets, Outputs(), self._place.device
        rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in batch.index.numpy()])
        kept = {name: [torch.from_numpy(part[rows]).to(device) for part in parts] for name, parts in self._kept.items()}
        if "top" in kept:
            index, probabilities = kept.pop("top")
            outputs.top = Top(index.long(), probabilities.float())
        for name, layers in kept.items():
            setattr(outputs, name, [layer.float() for layer in layers])
        outputs.embedding = None if self._embedding is None else self._embedding[batch.index].to(device)
        outputs.logits = None if self._logits is None else self._logits[batch.index].to(device)
        return outputs

    def _run(self, batch: Batch) -> Outputs:
        outputs = self._by_pytorch(batch.to(self._place.device)) if self._engine is None else self._engine(batch)
        outputs.hidden = outputs.hidden if self._hidden else []
        if self._top and outputs.logits is not None:
            outputs.top, outputs.logits = top_of(outputs.logits, self._top, self._temperature), None
        return outputs

    def _by_pytorch(self, batch: Batch) -> Outputs:
        with torch.no_grad(), self._place.autocast():
            outputs: Outputs = self._model(batch, attention=self._attention) if self._attention else self._model(batch)
        outputs.hidden = outputs.hidden[1:]
        return outputs

    def _fits(self, options: Options) -> bool:
        if self._whole:
            return False
        architecture = self._model.architecture
        layers = getattr(architecture, "layers", 0) * (int(self._hidden) + int(self._attention))
        token = 2 * layers * architecture.hidden_size + _TOP_BYTES * self._top
        return len(self._sequences.ids) * token <= options.cache_bytes

    def _pays(self, options: Options) -> bool:
        """Whether the run will see each text at least once."""
        tokens, step_tokens = len(self._sequences.ids), options.batch_tokens * options.accumulate
        if options.steps is not None and options.steps * step_tokens < tokens:
            return False
        if options.minutes is None:
            return True
        batches = self._sequences.by_length(options.batch_tokens)
        batch = self._sequences.batch(batches[len(batches) // 2])
        self._seconds(batch)
        pass_seconds = self._seconds(batch) * tokens / len(batch.ids)
        return 60 * options.minutes >= _STEP * pass_seconds

    def _seconds(self, batch: Batch) -> float:
        start = time.perf_counter()
        outputs = self._run(batch)
        for value in (*outputs.hidden, outputs.embedding, outputs.logits):
            if value is not None:
                value[:1].cpu()  # what a GPU was told to do is done
        return time.perf_counter() - start

    def _fill(self, batch_tokens: int) -> None:
        start, tokens = time.perf_counter(), len(self._sequences.ids)
        offsets = self._sequences.offsets
        for index in self._sequences.by_length(batch_tokens):
            outputs = self._run(self._sequences.batch(index))
            rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in index])
            self._keep("hidden", [layer.half() for layer in outputs.hidden], rows, tokens)
            self._keep("attention", [layer.half() for layer in outputs.attention], rows, tokens)
            if outputs.top is not None:
                self._keep("top", [outputs.top.index.int(), outputs.top.log.half()], rows, tokens)
            for name in ("embedding", "logits"):
                value = getattr(outputs, name)
                if value is None or (name == "logits" and "logits" in self._model.architecture.outputs):
                    continue
                if getattr(self, "_" + name) is None:
                    setattr(self, "_" + name, torch.empty(len(self._sequences), value.shape[1]))
                getattr(self, "_" + name)[torch.from_numpy(index)] = value.float().cpu()
        log.info("the teacher's outputs of %d tokens are kept (%.0f s)", tokens, time.perf_counter() - start)

    def _keep(self, name: str, parts: list[torch.Tensor], rows: np.ndarray, tokens: int) -> None:
        arrays = [part.cpu().numpy() for part in parts]
        if arrays and name not in self._kept:
            self._kept[name] = [np.empty((tokens, part.shape[1]), part.dtype) for part in arrays]
        for kept, part in zip(self._kept.get(name, ()), arrays, strict=True):
            kept[rows] = part

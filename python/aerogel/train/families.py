"""From a checkpoint to the PyTorch model of its family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aerogel.architectures import architecture_of
from aerogel.errors import UnsupportedModelError
from aerogel.train.bert import RaggedBert
from aerogel.train.trainee import Trainee

if TYPE_CHECKING:
    from aerogel.checkpoint import Checkpoint, Pooling


def open_trainee(checkpoint: Checkpoint, pooling: Pooling | None = None) -> Trainee:
    """The model of a checkpoint, ready to be trained: BERT on ragged batches, Llama and Qwen2 through transformers.

    Raises:
        UnsupportedModelError: a family that is not trained here.
    """
    architecture = architecture_of(checkpoint, pooling)
    model: Trainee
    if checkpoint.config["model_type"] == "bert":
        model = RaggedBert(architecture)
    elif architecture.generates:
        from aerogel.train.causal import Causal

        model = Causal(architecture, checkpoint.config)
    else:
        raise UnsupportedModelError(
            f"{checkpoint.path}: training: {checkpoint.config['model_type']!r} without a head is not supported"
        )
    model.read(checkpoint)
    return model

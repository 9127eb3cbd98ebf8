"""What every model that is trained here offers: outputs of a ragged batch, and parameters under checkpoint names."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from aerogel.architectures import Role, Tensor

if TYPE_CHECKING:
    from aerogel.architectures import Architecture
    from aerogel.checkpoint import Checkpoint
    from aerogel.train.batches import Batch


@dataclass
class Outputs:
    """Of T tokens in S sequences, of a model with E layers.

    Attributes:
        hidden: [T, H] after the embeddings and after every layer: E + 1 of them.
        attention: [T, H] what attention gives before its output projection, of every layer, if asked for.
        embedding: [S, H], pooled and not normalised, of a model with a pooling.
        logits: [S, labels] of a classifier, [T, V] of a language model.
    """

    hidden: list[torch.Tensor] = field(default_factory=list)
    attention: list[torch.Tensor] = field(default_factory=list)
    embedding: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class Trainee(nn.Module):
    """A model in training; `architecture` is aerogel's own reading of its config."""

    architecture: Architecture
    dropout: float

    @abstractmethod
    def forward(self, batch: Batch, attention: bool = False) -> Outputs:
        """Runs a ragged batch."""

    def named(self) -> dict[str, nn.Parameter]:
        """The parameters by their names in a checkpoint."""
        return dict(self.named_parameters())

    def by_role(self, *roles: Role) -> dict[str, nn.Parameter]:
        """The parameters that compression treats so."""
        named = self.named()
        return {tensor.name: named[tensor.name] for tensor in self.tensors() if tensor.role in roles}

    def tensors(self) -> list[Tensor]:
        """Every parameter with its role."""
        return self.architecture.tensors()

    def read(self, checkpoint: Checkpoint) -> None:
        """Takes over the checkpoint's parameters."""
        with torch.no_grad():
            for name, parameter in self.named().items():
                parameter.copy_(torch.from_numpy(np.array(checkpoint.array(name), np.float32)))

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters as float32 arrays, views where they are on the CPU."""
        return {name: parameter.detach().cpu().float().numpy() for name, parameter in self.named().items()}

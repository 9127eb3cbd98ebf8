"""A model in training: parameters under checkpoint names, and the outputs of a ragged batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from aerogel.architectures import Architecture, Pooling, Role, Tensor, architecture_of
from aerogel.checkpoint import Checkpoint
from aerogel.train.batches import Batch
from aerogel.train.losses import Top
from aerogel.train.program import Parts, Products, Ragged, RaggedParameters


@dataclass
class Outputs:
    """Of T tokens in S sequences, of a model with E layers.

    Attributes:
        hidden: [T, H] after the embeddings and after every layer: E + 1 of them; the last behind the final norm.
        attention: [T, heads d] what attention gives before its output projection, of every layer, if asked for.
        embedding: [S, H], pooled and not normalised, of a model with a pooling.
        logits: [S, labels] of a classifier, [T, V] of a language model.
        top: of a language model that is a teacher, what is left of the logits.
    """

    hidden: list[torch.Tensor] = field(default_factory=list)
    attention: list[torch.Tensor] = field(default_factory=list)
    embedding: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    top: Top | None = None


class Trainee(nn.Module):
    """Any architecture, in float32; its parameters have the names that they have in a checkpoint.

    Attributes:
        architecture: says what is computed.
        dropout: the part of hidden states that is dropped in training.
        see: called with the names of a linear's parts and its input before each linear, if set.
        products: computes linears in PyTorch's place, where it can, if set.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.dropout = 0.0
        self.see: Callable[[Parts, torch.Tensor], None] | None = None
        self.products: Products | None = None
        architecture.trace = True  # hidden states of every layer
        for tensor in architecture.tensors():
            self._add(tensor.name, tensor.shape)
        self._heads = frozenset(tensor.name for tensor in architecture.tensors() if tensor.role is Role.HEAD)

    def forward(self, batch: Batch, attention: bool = False) -> Outputs:
        """Runs a ragged batch."""
        named = self.named()
        program = Ragged(batch, named, self._drop, self._heads, self.see, self.products)
        self.architecture.build(program, RaggedParameters(named))
        found = program.outputs
        hidden = [found[f"residual.{i}"] for i in range(self.architecture.layers)] + [found["hidden"]]
        logits = found.get("scores", found.get("logits"))
        return Outputs(hidden, program.attention_outputs if attention else [], found.get("pooled"), logits)

    def named(self) -> dict[str, nn.Parameter]:
        """The parameters by their names."""
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

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The parameters as float32 arrays, views where they are on the CPU."""
        return {name: parameter.detach().cpu().float().numpy() for name, parameter in self.named().items()}

    def _add(self, name: str, shape: tuple[int, ...]) -> None:
        """A parameter under its dotted name: a path of modules."""
        *path, leaf = name.split(".")
        module: nn.Module = self
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(leaf, nn.Parameter(torch.empty(shape)))

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


def open_trainee(checkpoint: Checkpoint, pooling: Pooling | None = None) -> Trainee:
    """The model of a checkpoint, ready to be trained.

    Raises:
        UnsupportedModelError: a family that is not known.
    """
    model = Trainee(architecture_of(checkpoint, pooling))
    model.read(checkpoint)
    return model

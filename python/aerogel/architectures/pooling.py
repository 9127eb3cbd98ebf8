"""How the hidden states of a sequence become its embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerogel.architectures.tensors import Role, Tensor

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value

#: mean_sqrt_len: the sum over the root of the number of tokens; weightedmean: token t counts t times.
MODES = ("mean", "cls", "max", "last", "mean_sqrt_len", "weightedmean")


@dataclass(frozen=True)
class Dense:
    """A linear after the pooling, f(x W^T + b).

    Attributes:
        name: of its tensors, before .weight and .bias.
        inputs: width of x.
        outputs: width of the result.
        bias: whether there is a b.
        activation: f, a name of the engine's; None: there is none.
    """

    name: str
    inputs: int
    outputs: int
    bias: bool
    activation: str | None


@dataclass(frozen=True)
class Norm:
    """A layer norm after the pooling, with PyTorch's epsilon. `name`: of its tensors."""

    name: str
    width: int
    eps = 1e-5


@dataclass(frozen=True)
class Normalize:
    """To length 1."""


Step = Dense | Norm | Normalize


@dataclass(frozen=True)
class Pooling:
    """Tokens to one embedding.

    Attributes:
        modes: of MODES; several stand side by side, each as wide as the hidden states.
        normalize: whether the embedding is scaled to length 1 in the end.
        steps: what stands between.
        dimensions: so many numbers of an embedding are kept, the first; None: all. `Model.encode` cuts.
    """

    modes: tuple[str, ...]
    normalize: bool
    steps: tuple[Step, ...] = ()
    dimensions: int | None = None

    def width(self, hidden: int) -> int:
        """The width of an embedding before it is cut to `dimensions`."""
        widths = [step.outputs for step in self.steps if isinstance(step, Dense)]
        return widths[-1] if widths else hidden * len(self.modes)


def pooling_tensors(pooling: Pooling | None, hidden: int) -> list[Tensor]:
    """The tensors of what stands after the pooling; `hidden` is the width of the hidden states."""
    found: list[Tensor] = []
    # Only what reads the hidden states themselves gets narrower with them.
    axis = "hidden" if pooling is not None and len(pooling.modes) == 1 else ""
    for step in pooling.steps if pooling is not None else ():
        if isinstance(step, Dense):
            inputs = hidden if axis else step.inputs
            found.append(Tensor.over(step.name + ".weight", step.name, Role.HEAD, (step.outputs, ""), (inputs, axis)))
            if step.bias:
                found.append(Tensor.over(step.name + ".bias", step.name + ".bias", Role.KEPT, (step.outputs, "")))
            axis = ""
        elif isinstance(step, Norm):
            width = hidden if axis else step.width
            found += [
                Tensor.over(f"{step.name}.{part}", f"{step.name}.{part}", Role.KEPT, (width, axis))
                for part in ("weight", "bias")
            ]
    return found


def pooling_stacks(pooling: Pooling | None) -> list[tuple[str, ...]]:
    """The linears after the pooling, in the order of use."""
    steps = pooling.steps if pooling is not None else ()
    return [(step.name + ".weight",) for step in steps if isinstance(step, Dense)]


def add_pooling(p: Program, w: Parameters, hidden: Value, pooling: Pooling) -> None:
    """[T, H] -> "pooled" [S, E], and "embedding" [S, E], which has length 1 where the model says so."""
    x = p.pool(hidden, pooling.modes)  # [S, n H]
    for step in pooling.steps:
        x = _add(p, w, x, step)
    p.output("pooled", x)
    p.output("embedding", p.l2_normalize(x) if pooling.normalize else x)


def _add(p: Program, w: Parameters, x: Value, step: Step) -> Value:
    if isinstance(step, Normalize):
        return p.l2_normalize(x)
    if isinstance(step, Norm):
        return p.layer_norm(step.name, x, w.vector(step.name + ".weight"), w.vector(step.name + ".bias"), step.eps)
    weight = step.name + ".weight"
    bias = w.vector(step.name + ".bias") if step.bias else None
    y = p.linear(step.name, x, w.linear(weight), bias, limit=w.limit(weight))
    return y if step.activation is None else p.activation(y, step.activation)

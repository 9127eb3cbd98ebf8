"""Where a run computes, and how: matrix products in bfloat16 where the device has instructions for them, which are GPUs and
CPUs with AVX512-BF16, else in float32. Parameters are in float32 everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aerogel.errors import RecipeError
from aerogel.train.options import Options


@dataclass(frozen=True)
class Place:
    """
    Attributes:
        device: where the student, the teacher and their batches are.
        bf16: whether products are in bfloat16 (PyTorch's autocast); parameters, gradients, norms, losses and the optimizer
            are in float32 all the same.
    """

    device: torch.device
    bf16: bool

    def autocast(self) -> torch.autocast:
        """For the forward pass of a model."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def place_of(options: Options) -> Place:
    """What the options' `device` and `precision` stand for on this machine.

    Raises:
        RecipeError: PyTorch has no such device here.
    """
    name = options.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise RecipeError(f"device: {options.device}: PyTorch {torch.__version__} has {count} CUDA devices here")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise RecipeError(f"device: mps: PyTorch {torch.__version__} has none here")
    device = torch.device(name)
    if options.precision == "auto":
        return Place(device, _multiplies_bf16(device))
    return Place(device, options.precision == "bf16")


def _multiplies_bf16(device: torch.device) -> bool:
    """Whether products of bfloat16 are much faster there than those of float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # AMX comes with it. PyTorch 2.4 on; a name of its own that may go away.
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None) if device.type == "cpu" else None
    return asked is not None and bool(asked())


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of the random numbers that a run on `device` draws."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(device: torch.device, states: dict[str, torch.Tensor]) -> None:
    """Sets what `random_state` gave. A device that has no part in it, as the run began on another one, stays as it is."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)

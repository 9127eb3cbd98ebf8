"""Training against the rounding of a quantization scheme, straight-through (arXiv 1308.3432).

The forward and the backward pass run with the rounded weights; the gradient is applied to the float ones. Rounded are
exactly the values that `aerogel.compress` will store, as long as nothing changes afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from aerogel.quantize import scheme

_LARGEST = 127
_TINY = torch.finfo(torch.float32).tiny


@torch.no_grad()
def rounded(weight: torch.Tensor, name: str) -> torch.Tensor:
    """float32 [N,K] rounded to what the scheme called `name` can represent."""
    if name != "int8":  # any scheme; int8 is here in PyTorch because it runs at every step
        return torch.from_numpy(scheme(name)(weight.cpu().numpy()).dense()).to(weight.device)
    scale = weight.abs().amax(dim=1, keepdim=True) / _LARGEST
    scale = torch.where(scale < _TINY, torch.zeros_like(scale), scale)
    codes = (weight / torch.where(scale > 0, scale, torch.ones_like(scale))).round_().clamp_(-_LARGEST, _LARGEST)
    return codes.mul_(scale)


@contextmanager
def fake_quantized(weights: Iterable[torch.nn.Parameter], name: str | None) -> Iterator[None]:
    """In the block the weights hold their rounded values, after it their own again; gradients stay."""
    if name is None or name == "none":
        yield
        return
    saved = [(weight, weight.data) for weight in weights]
    try:
        for weight, values in saved:
            weight.data = rounded(values, name)
        yield
    finally:
        for weight, values in saved:
            weight.data = values

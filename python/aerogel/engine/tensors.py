"""PyTorch's tensors, for callers who want them; PyTorch is imported for them only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aerogel.errors import AerogelError


def torch_module() -> Any:
    """PyTorch. Raises AerogelError where it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise AerogelError("convert_to_tensor: expected PyTorch to be installed: pip install torch") from error
    return torch


def as_tensor(values: Any) -> Any:
    """A tensor of its own memory with the values of an array."""
    return torch_module().from_numpy(values.copy()) if getattr(values, "ndim", 0) else torch_module().tensor(values)


def like_torch(values: Any) -> Any:
    """A tensor where PyTorch is installed, as programs written for it expect, else the array."""
    try:
        torch_module()
    except AerogelError:
        return values
    return as_tensor(values)


def from_torch(function: Callable[[Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of tensors as one of arrays; where PyTorch is not installed it is one of arrays already."""
    return lambda values: np.asarray(function(like_torch(values)))

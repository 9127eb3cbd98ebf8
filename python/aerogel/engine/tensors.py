"""PyTorch's tensors, for callers who want them; PyTorch is imported for them only."""

from __future__ import annotations

from typing import Any

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

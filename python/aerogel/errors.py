"""Every error that aerogel raises on purpose is an `AerogelError`; the subclass names the cause.

A message says what, where, expected and got, so that it can be acted on without reading the code.
"""

from __future__ import annotations

from collections.abc import Iterable

from aerogel._core import AerogelError, DataError, IsaError, ShapeError

__all__ = [
    "AerogelError",
    "ChatTemplateError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DeadlineError",
    "IsaError",
    "MissingTensorsError",
    "OverloadedError",
    "RecipeError",
    "ShapeError",
    "TokenizerError",
    "UnsupportedModelError",
]


class CheckpointError(AerogelError):
    """A model's file or folder is missing, unreadable or broken."""


class MissingTensorsError(CheckpointError):
    """Tensors that the model needs are not in the checkpoint; `names` has all of them."""

    def __init__(self, where: object, names: Iterable[str]) -> None:
        self.names = sorted(names)
        count = len(self.names)
        what = "a tensor is missing" if count == 1 else f"{count} tensors are missing"
        super().__init__(f"{where}: {what}: {', '.join(self.names)}")


class UnsupportedModelError(AerogelError):
    """The file is sound, but aerogel does not know this architecture, layer, quantization or tokenizer."""


class TokenizerError(AerogelError):
    """The tokenizer is missing or broken, or was asked for something impossible."""


class ChatTemplateError(AerogelError):
    """A chat template is missing or broken, refuses the messages, or asks for too much time or memory."""


class ConfigError(AerogelError):
    """A configuration file or value is missing, is not valid JSON, or has the wrong type."""


class RecipeError(AerogelError):
    """A compression recipe asks for something unknown or contradictory."""


class OverloadedError(AerogelError):
    """A scheduler has as much to do as it accepts; after `retry_after` seconds there may be room."""

    def __init__(self, message: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class DeadlineError(AerogelError):
    """The time that a request had has passed before its answer was there."""

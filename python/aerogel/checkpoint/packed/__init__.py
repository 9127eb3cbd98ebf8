"""Packed models, what aerogel writes: the format, its reader and its writer."""

from __future__ import annotations

from aerogel.checkpoint.packed.format import FORMAT_VERSION, is_packed
from aerogel.checkpoint.packed.reader import PackedCheckpoint, detect, read
from aerogel.checkpoint.packed.small import SmallSafetensorsWriter
from aerogel.checkpoint.packed.writer import add_weight, packed_config

__all__ = [
    "FORMAT_VERSION",
    "PackedCheckpoint",
    "SmallSafetensorsWriter",
    "add_weight",
    "detect",
    "is_packed",
    "packed_config",
    "read",
]

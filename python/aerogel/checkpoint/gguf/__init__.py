"""GGUF: the file, its tokenizers, and the checkpoint that they make."""

from __future__ import annotations

from aerogel.checkpoint.gguf.reader import GGUFCheckpoint, detect, read

__all__ = ["GGUFCheckpoint", "detect", "read"]

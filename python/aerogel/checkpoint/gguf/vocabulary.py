"""A tokenizer's metadata in a GGUF file, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aerogel.checkpoint.gguf.arrays import FileArray
from aerogel.errors import TokenizerError

# Token types, as llama.cpp numbers them.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
#: What some converters write for a token that there is not: -1 as an unsigned number.
_ABSENT = 0xFFFFFFFF


class Vocabulary:
    """The tokenizer's metadata."""

    def __init__(self, metadata: dict[str, Any], path: Path, defaults: Mapping[str, int]) -> None:
        """`defaults`: special tokens that the file need not name."""
        self.path = path
        self._defaults = defaults
        self._metadata = metadata
        self.tokens: list[str] = self._list("tokens", (str,), "strings")
        if not self.tokens:
            raise TokenizerError(f"{path}: tokenizer.ggml.tokens: expected a list of tokens, got none")
        self.types: list[int] = self._list("token_type", (int,), "whole numbers") or [1] * len(self.tokens)
        self.scores: list[float] = self._list("scores", (float, int), "numbers")
        self.merges: list[str] = self._list("merges", (str,), "strings")
        for key, values in (("token_type", self.types), ("scores", self.scores)):
            if values and len(values) != len(self.tokens):
                raise TokenizerError(
                    f"{path}: tokenizer.ggml.{key}: expected {len(self.tokens)}, one per token, got {len(values)}"
                )
        if any(math.isnan(score) for score in self.scores):
            raise TokenizerError(f"{path}: tokenizer.ggml.scores: expected numbers, got NaN")

    def get(self, key: str, default: Any = None) -> Any:
        return self._metadata.get(f"tokenizer.ggml.{key}", default)

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise TokenizerError(f"{self.path}: tokenizer.ggml.{key}: expected true or false, got {value!r:.80}")
        return value

    def special(self, key: str) -> int | None:
        """The id of a special token; None: there is none."""
        index = self.get(key)
        if index is None:
            index = self._defaults.get(key, _ABSENT)
            return index if index < len(self.tokens) else None
        if index == _ABSENT:
            return None
        if type(index) is not int or not 0 <= index < len(self.tokens):
            raise TokenizerError(
                f"{self.path}: tokenizer.ggml.{key}: expected a token id below {len(self.tokens)}, got {index!r:.80}"
            )
        return index

    def charsmap(self) -> bytes:
        """SentencePiece's table of characters that stand for others; empty where there is none."""
        values = self._list("precompiled_charsmap", (int,), "bytes")
        if not all(-128 <= value < 256 for value in values):
            raise TokenizerError(
                f"{self.path}: tokenizer.ggml.precompiled_charsmap: expected bytes, got {values!r:.80}"
            )
        return bytes(value & 0xFF for value in values)

    def ids(self, tokens: list[str] | None = None) -> dict[str, int]:
        """Token -> id, of `tokens` instead of the file's own where they are given."""
        ids: dict[str, int] = {}
        for index, token in enumerate(self.tokens if tokens is None else tokens):
            if ids.setdefault(token, index) != index:
                raise TokenizerError(f"{self.path}: tokenizer.ggml.tokens: {token!r} is both {ids[token]} and {index}")
        return ids

    def _list(self, key: str, kinds: tuple[type, ...], expected: str) -> list[Any]:
        values = self.get(key, [])
        if isinstance(values, FileArray):
            values = list(values)
        if not isinstance(values, list) or not all(type(value) in kinds for value in values):
            raise TokenizerError(
                f"{self.path}: tokenizer.ggml.{key}: expected a list of {expected}, got {values!r:.80}"
            )
        return values

"""How the hidden states of a sequence become its embedding."""

from __future__ import annotations

from dataclasses import dataclass

MODES = ("mean", "cls", "max", "last")


@dataclass(frozen=True)
class Pooling:
    """`mode` is one of MODES; `normalize` scales the embedding to length 1."""

    mode: str
    normalize: bool

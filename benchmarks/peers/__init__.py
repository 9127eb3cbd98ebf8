"""Other engines, each behind the same few words: prepare(model, precision, cache), run, threads.

One file per engine, named as the package that it imports. Nothing is imported before it is asked for, so an engine
that is absent is a visible skip. A peer runs at its best: the variants that were tried and lost are named in its file.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Peer:
    distribution: str  # what must be installed
    kind: str  # "encoder" or "decoder"
    precisions: tuple[str, ...]
    waiting: str  # how its threads wait, which is what makes engines disturb each other


PEERS = {
    "torch": Peer("torch", "encoder", ("fp32", "int8"), "OpenMP: spins some ms after every parallel region"),
    "onnxruntime": Peer("onnxruntime", "encoder", ("fp32", "int8"), "own pool: spins between and after operators"),
    "openvino": Peer("openvino", "encoder", ("fp32", "int8"), "oneTBB: spins briefly, then sleeps"),
    "llama_cpp": Peer("llama-cpp-python", "decoder", ("q8_0",), "OpenMP barriers inside every token: spins"),
}


def installed_version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


class Encoder(ABC):
    """An engine that turns ragged token ids into last hidden states."""

    def __init__(self, threads: int):
        self.threads = threads

    @abstractmethod
    def prepare(self, model: Path, precision: str, cache: Path) -> None:
        """Build or reuse what the engine needs for this checkpoint folder; leaves files only in cache."""

    @abstractmethod
    def run(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        """[len(ids)] int32 of each row -> [len(ids), hidden] float32 of each row."""


class Decoder(ABC):
    """An engine that continues a prompt greedily."""

    def __init__(self, threads: int):
        self.threads = threads

    @abstractmethod
    def prepare(self, model: Path, precision: str, cache: Path) -> None: ...

    @abstractmethod
    def run(self, prompt: np.ndarray, new_tokens: int) -> np.ndarray:
        """The new_tokens ids that follow the prompt; an end-of-text token does not stop it."""


def load(name: str):
    """The module of one peer; its class is called Encoder or Decoder there."""
    return importlib.import_module(f"{__name__}.{name}")


def pad(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(ids, mask), both int64 [S, longest]: the form that engines without ragged batches need."""
    longest = max(map(len, rows))
    ids = np.zeros((len(rows), longest), np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


def unpad(states: np.ndarray, rows: list[np.ndarray]) -> list[np.ndarray]:
    return [states[i, : len(row)] for i, row in enumerate(rows)]


def file_key(path: Path) -> str:
    """Short content hash that names cached conversions, so that a changed checkpoint never meets an old graph."""
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]

"""The engines that are compared: aerogel itself and others, each behind the same interface.

One file per engine, named as the package that it imports, with a class `Engine`; one row in PEERS. Nothing is imported
before it is asked for. A peer runs in the configuration its authors recommend; slower variants that were tried are named in
its file. These files run in whatever environment has the engine, so they import NumPy, the engine, and nothing of aerogel.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Peer:
    """One row of the registry.

    Attributes:
        distribution: what must be installed.
        kinds: the precisions that it has for each kind of model, "encoder", "decoder" or "linear".
        needs: what it is given: "folder" (a Hugging Face folder), "onnx", or "gguf".
        sparse: whether zeros make it faster, so that it takes part once for each sparsity.
    """

    distribution: str
    kinds: dict[str, tuple[str, ...]]
    needs: str = "folder"
    sparse: bool = False


BOTH = ("int8", "fp32")

PEERS = {
    "onnxruntime": Peer("onnxruntime", {"encoder": BOTH, "linear": BOTH}, needs="onnx"),
    "openvino": Peer("openvino", {"encoder": BOTH, "linear": BOTH}, needs="onnx"),
    "torch": Peer("torch", {"encoder": BOTH, "decoder": BOTH, "linear": BOTH}),
    "ctranslate2": Peer("ctranslate2", {"encoder": BOTH}),
    "deepsparse": Peer("deepsparse", {"encoder": BOTH, "linear": BOTH}, needs="onnx", sparse=True),
    "llama_cpp": Peer("llama-cpp-python", {"decoder": ("int8",)}, needs="gguf"),
    "scipy": Peer("scipy", {"linear": ("fp32",)}, sparse=True),
    "sparse_dot_mkl": Peer("sparse-dot-mkl", {"linear": ("fp32",)}, sparse=True),
}


class Engine(ABC):
    """One engine with one model in one precision.

    `job` has: kind, precision, threads, model (a folder, a file, or for "linear" a .npz with weight [N,K] and calibration
    [M,K]), onnx (the exported graph, if the row needs it), cache (where converted files may stay), key (which names them),
    calibration (a .npz of inputs), shape (of the first case's input).
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.kind: str = job["kind"]
        self.precision: str = job["precision"]
        self.threads: int = job["threads"]
        self.model = Path(job["model"])
        self.cache = Path(job["cache"])

    def files(self) -> list[Path]:
        """What is loaded; `convert` makes what is not there."""
        return [self.model]

    def convert(self) -> None:
        """Makes the files. Runs in a process of its own."""
        raise FileNotFoundError(f"{self.model} is not there")

    @abstractmethod
    def load(self) -> None:
        """Files to ready; this is timed."""

    @abstractmethod
    def run(self, *arrays: np.ndarray) -> np.ndarray:
        """encoder: ids int64 [B,S] -> hidden states float32 [B,S,H].

        decoder: ids int64 [T] -> logits float32 [V] of the last; or ids and [n] -> the n ids that follow, greedily, where
        an end-of-text token does not stop it. linear: x float32 [M,K] -> y float32 [M,N].
        """

    def version(self) -> str:
        return ""

    def facts(self) -> dict[str, Any]:
        """What is to be known of the loaded engine: at least what it takes on disk."""
        return {"disk_bytes": sum(size(file) for file in self.files())}


def size(path: Path) -> int:
    """Bytes of a file, or of the weights in a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir() if file.suffix in (".safetensors", ".bin"))
    return path.stat().st_size


def file_key(path: Path) -> str:
    """Short content hash that names converted files, so that a changed model never meets an old graph."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return digest.hexdigest()[:12]
            digest.update(block)


def replace(partial: Path, target: Path) -> None:
    """Moves a finished file to its place; a conversion that broke off leaves none there."""
    os.replace(partial, target)


def has_vnni() -> bool:
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False

"""Reading models, whatever they come in.

`open_checkpoint` takes a folder, a file or a Hugging Face model id and returns a `Checkpoint`. Each source is one module
with `detect` and `read`, and one row of `SOURCES`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from aerogel._util.checks import flag, path_like, text
from aerogel._util.partial import restore
from aerogel.architectures.pooling import Pooling
from aerogel.checkpoint import compressed_tensors, gguf, hub, packed, safetensors
from aerogel.checkpoint.checkpoint import Checkpoint
from aerogel.checkpoint.decoding import StreamDecoder
from aerogel.checkpoint.rerank import as_reranker
from aerogel.checkpoint.tokenizer import Tokenizer
from aerogel.checkpoint.weight import Weight
from aerogel.errors import CheckpointError

__all__ = ["SOURCES", "Checkpoint", "Pooling", "StreamDecoder", "Tokenizer", "Weight", "open_checkpoint"]


class Source(Protocol):
    """A module that reads one kind of file."""

    def detect(self, path: Path) -> bool:
        """Whether the path is of this kind."""

    def read(self, path: Path, verify: bool = True) -> Checkpoint:
        """Opens it; `verify`: hold what is read against its checksums, where there are some."""


# Asked in this order: the first that detects the path opens it. The last takes any folder and says what it lacks.
SOURCES: tuple[Source, ...] = (packed, compressed_tensors, gguf, safetensors)


def open_checkpoint(path_or_id: str | os.PathLike[str], verify: bool = True, rerank: str | None = None) -> Checkpoint:
    """Opens a model for reading. Weights are read when they are asked for.

    Args:
        path_or_id: a packed model, a Hugging Face (compressed-tensors too) or sentence-transformers folder, a .gguf or
            .safetensors file, or a model id such as "sentence-transformers/all-MiniLM-L6-v2", which is downloaded (and
            cached) unless HF_HUB_OFFLINE is set. A path wins over an id of the same name.
        verify: hold the files of a packed model against their checksums.
        rerank: how a language model scores pairs of texts, see `aerogel.load`; one whose files say it does so anyway.

    Raises:
        CheckpointError: there is no such model, or its files are broken.
        ConfigError: its config.json is missing or broken.
        UnsupportedModelError: aerogel does not read this kind of file.
    """
    # os.path and not Path: an unknown home or a name that is too long for the file system is no path either.
    verify = flag("verify", verify)
    if rerank is not None:
        text("rerank", rerank)
    path = Path(os.path.expanduser(path_like("path", path_or_id, CheckpointError)))
    restore(path)  # should a writer have been killed while it put a new model in this place
    if not os.path.exists(path):
        path = hub.download(os.fspath(path_or_id))
    for source in SOURCES:
        if source.detect(path):
            return as_reranker(source.read(path, verify), rerank)
    raise CheckpointError(f"{path}: expected a model folder, a .safetensors or a .gguf file, got something else")

"""What every checkpoint offers, whatever file it comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aerogel.checkpoint.blocks import Blocks
from aerogel.checkpoint.chat import ChatTemplates
from aerogel.checkpoint.generation import GenerationSettings
from aerogel.checkpoint.sentence_transformers import Prompts
from aerogel.checkpoint.weight import Weight
from aerogel.errors import MissingTensorsError

if TYPE_CHECKING:
    from aerogel.architectures.pooling import Pooling
    from aerogel.checkpoint.query_terms import QueryTerms
    from aerogel.checkpoint.tokenizer import Tokenizer


class Checkpoint(ABC):
    """A model's parameters, config and tokenizer, read lazily.

    Names are Hugging Face's, relative to the base model (see `aerogel.checkpoint.names`). Each call reads anew, into memory
    of its own: whatever happens to the file afterwards, an array stays as it is, and its memory is free with it.
    """

    kind: str

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config

    @abstractmethod
    def names(self) -> list[str]:
        """The parameters' names, sorted."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """The parameter's shape."""

    @abstractmethod
    def array(self, name: str) -> NDArray[np.float32]:
        """The parameter as float32, decoded. For norms, biases and the like; a matrix is better read by `weight`."""

    @abstractmethod
    def weight(self, name: str) -> Weight:
        """The matrix in its stored form. Raises ShapeError if it is not a matrix."""

    def blocks(self, name: str, rows: int) -> Iterator[NDArray[np.float32]]:
        """The matrix as float32, so many rows at a time; the last block has those that are left. Where the file allows it no
        more than a block is in memory."""
        dense = self.weight(name).dense()
        for begin in range(0, len(dense), rows):
            yield dense[begin : begin + rows]

    def stored(self, name: str) -> Weight | Blocks:
        """The matrix as the file has it, for an engine that can run it so: blocks of GGUF stay what they are."""
        return self.weight(name)

    def block_type(self, name: str) -> str | None:
        """The type of the blocks that `stored` gives, None where it gives none."""
        return None

    def input_limit(self, name: str) -> float | None:
        """The largest |x| that int8 codes stand for at the input of the linear whose weight is `name`, where it is fixed
        (static): codes have the scale limit / 127. None: each token has its own (dynamic)."""
        return None

    @abstractmethod
    def _load_tokenizer(self) -> Tokenizer: ...

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self._load_tokenizer()

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, loaded at the first call."""
        return self._tokenizer

    @property
    def prompts(self) -> Prompts:
        """What the model's authors put before texts."""
        return Prompts()

    @property
    def similarity(self) -> str | None:
        """How the model's authors compare embeddings: "cosine", "dot", "euclidean", "manhattan"; None: they do not say."""
        return None

    @property
    def term_activation(self) -> str | None:
        """What a sparse encoder makes of its logits before the logarithm: "relu" or "log1p_relu"; None: it is not said."""
        return None

    @property
    def query_terms(self) -> QueryTerms | None:
        """What makes a sparse encoder's embeddings of queries without the model; None: the model does."""
        return None

    @property
    def score_activation(self) -> str | None:
        """What the model's authors do to a classifier's scores, by PyTorch's name of it; None: they do not say."""
        return None

    @property
    def generation(self) -> GenerationSettings:
        """What the model's authors want done to logits while it generates."""
        return GenerationSettings()

    @property
    def chat_templates(self) -> ChatTemplates:
        """How the model's authors write conversations."""
        return ChatTemplates(self.path)

    @property
    def pooling(self) -> Pooling | None:
        """How the model's authors make one embedding of a sequence, or None where the checkpoint does not say."""
        return None

    @property
    def max_tokens(self) -> int | None:
        """Tokens per sequence, special ones included, that the model was made for, where the checkpoint says so."""
        return None

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def require(self, names: Iterable[str]) -> None:
        """Raises MissingTensorsError with all of `names` that the checkpoint does not have."""
        missing = [name for name in names if name not in self]
        if missing:
            raise MissingTensorsError(self.path, missing)

    def __repr__(self) -> str:
        return f"<{self.kind} checkpoint {str(self.path)!r}: {len(self.names())} parameters>"

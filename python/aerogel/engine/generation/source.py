"""What a generation needs of a model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from aerogel.checkpoint.generation import token_ids
from aerogel.errors import TokenizerError, UnsupportedModelError

if TYPE_CHECKING:
    from aerogel._core import Session
    from aerogel.architectures import Architecture
    from aerogel.checkpoint import Checkpoint
    from aerogel.checkpoint.tokenizer import Tokenizer


@dataclass(frozen=True)
class Source:
    """A model as generations see it.

    Attributes:
        checkpoint: its files.
        architecture: its family.
        session: a session that is the caller's own until the block ends.
        check_open: raises an AerogelError where the model has been closed.
        said: notes that the log has had already: each comes once a model.
    """

    checkpoint: Checkpoint
    architecture: Architecture
    session: Callable[[], AbstractContextManager[Session]]
    check_open: Callable[[], None]
    said: set[str]

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.checkpoint.tokenizer()

    @cached_property
    def in_parts(self) -> bool:
        """Whether it is the same to run a text at once or in parts. It is not where rotary embeddings look at its length."""
        return not self.architecture.looks_at_lengths

    @cached_property
    def turns_over(self) -> int | None:
        """See `Architecture.turns_over`: a text that gets longer is run anew from its beginning, once."""
        return self.architecture.turns_over

    def check(self) -> None:
        """Raises UnsupportedModelError unless the model writes texts, ConfigError where its files name tokens beyond it."""
        if not self.architecture.generates:
            given = ", ".join(self.architecture.outputs)
            raise UnsupportedModelError(
                f"{self.checkpoint.path}: not a generating model: expected a language model, got one that gives {given}"
            )
        self.checkpoint.generation.check_ids(self.architecture.vocab_size, self.checkpoint.path)

    def ends(self) -> frozenset[int]:
        """The tokens that end a text."""
        try:
            return frozenset(self.tokenizer.eos_ids)
        except TokenizerError:  # token ids alone can be run without a tokenizer
            where = f"{self.checkpoint.path}: config: eos_token_id"
            return frozenset(token_ids(where, self.checkpoint.config.get("eos_token_id")))

"""A checkpoint made from another one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aerogel.checkpoint.chat import ChatTemplates
from aerogel.checkpoint.checkpoint import Checkpoint
from aerogel.checkpoint.generation import GenerationSettings
from aerogel.checkpoint.messages import Messages
from aerogel.checkpoint.sentence_transformers import Prompts

if TYPE_CHECKING:
    from aerogel.architectures.pooling import Pooling
    from aerogel.checkpoint.tokenizer import Tokenizer


class Derived(Checkpoint):
    """Tensors of its own under a config of its own; tokenizer, pooling and path are the source's."""

    def __init__(self, source: Checkpoint, config: dict[str, Any], names: Iterable[str]) -> None:
        super().__init__(source.path, config)
        self.kind = source.kind  # what may be copied along depends on it
        self._source = source
        self._names = sorted(names)

    def names(self) -> list[str]:
        return self._names

    @property
    def prompts(self) -> Prompts:
        return self._source.prompts

    @property
    def similarity(self) -> str | None:
        return self._source.similarity

    @property
    def score_activation(self) -> str | None:
        return self._source.score_activation

    @property
    def term_activation(self) -> str | None:
        return self._source.term_activation

    @property
    def chat_templates(self) -> ChatTemplates:
        return self._source.chat_templates

    @property
    def messages(self) -> Messages | None:
        return self._source.messages

    @property
    def generation(self) -> GenerationSettings:
        return self._source.generation

    @property
    def pooling(self) -> Pooling | None:
        return self._source.pooling

    @property
    def max_tokens(self) -> int | None:
        return self._source.max_tokens

    def _load_tokenizer(self) -> Tokenizer:
        return self._source.tokenizer()

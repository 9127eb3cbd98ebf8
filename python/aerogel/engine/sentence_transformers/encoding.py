"""What the classes share that embed texts: prompts for queries and documents, and how embeddings are compared."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from aerogel._util.checks import one_of
from aerogel.engine.embeddings import SIMILARITIES
from aerogel.engine.sentence_transformers.wrapper import Wrapper


class EncodingWrapper(Wrapper):
    """A `Wrapper` with `encode`. `_similarity` is the name of how embeddings are compared."""

    _similarity: str

    @abstractmethod
    def encode(
        self, inputs: Any = None, prompt_name: str | None = None, prompt: str | None = None, *args: Any, **options: Any
    ) -> Any:
        """Embeds texts."""

    def encode_query(
        self, inputs: Any = None, prompt_name: str | None = None, prompt: str | None = None, *args: Any, **options: Any
    ) -> Any:
        """`encode`, after the prompt "query" if there is one and the call names no other."""
        return self.encode(inputs, self.task_prompt(prompt, prompt_name, ("query",)), prompt, *args, **options)

    def encode_document(
        self, inputs: Any = None, prompt_name: str | None = None, prompt: str | None = None, *args: Any, **options: Any
    ) -> Any:
        """`encode`, after the prompt "document", "passage" or "corpus" if there is one and the call names no other."""
        name = self.task_prompt(prompt, prompt_name, ("document", "passage", "corpus"))
        return self.encode(inputs, name, prompt, *args, **options)

    @property
    def similarity_fn_name(self) -> str:
        """How `similarity` compares: "cosine", "dot", "euclidean" or "manhattan"."""
        return self._similarity

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: Any) -> None:
        self._similarity = one_of("similarity_fn_name", getattr(value, "value", value), SIMILARITIES)

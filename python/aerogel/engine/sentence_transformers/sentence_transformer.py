"""SentenceTransformer by another engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from aerogel._util.checks import flag, one_of, shown, whole_number
from aerogel.engine.embeddings import pairwise_similarity, similarity
from aerogel.engine.sentence_transformers.encoding import EncodingWrapper
from aerogel.engine.sentence_transformers.wrapper import refuse_options, taken_texts
from aerogel.engine.tensors import as_tensor, like_torch
from aerogel.errors import AerogelError, UnsupportedModelError


class SentenceTransformer(EncodingWrapper):
    """Embeds texts, with the calls of sentence-transformers' class of this name.

    Args:
        model_name_or_path: as `aerogel.load` takes it, packed models too.
        similarity_fn_name: "cosine", "dot", "euclidean" or "manhattan"; unless given as the model's files say, else cosine.
        truncate_dim: the numbers of an embedding that are kept, the first ones; all unless given or said by the files.
        options: see `Wrapper`.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        *,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model_name_or_path, **options)
        if "embedding" not in self.model.outputs:
            self.close()
            raise UnsupportedModelError(f"{model_name_or_path}: not an embedding model: it has no pooling")
        self._similarity = self.model.similarity_fn_name
        if similarity_fn_name is not None:
            self.similarity_fn_name = similarity_fn_name
        #: The numbers of an embedding that are kept; None: all.
        self.truncate_dim = None if truncate_dim is None else whole_number("truncate_dim", truncate_dim, 1)

    def encode(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        **options: Any,
    ) -> Any:
        """Embeds texts.

        Args:
            inputs: one text or many (`sentences`, by its older name).
            prompt_name: the prompt before each text, one of `prompts`.
            prompt: the prompt itself.
            batch_size: the most texts that are run at once; unless given as many as are fast: they are not padded.
            show_progress_bar: show a bar on stderr.
            output_value: "sentence_embedding", or "token_embeddings": the hidden states of each text's tokens.
            precision: "float32", "int8", "uint8", "binary" or "ubinary".
            convert_to_numpy: give an array; False: a list of tensors.
            convert_to_tensor: give one tensor.
            device: "cpu".
            normalize_embeddings: scale to length 1.
            truncate_dim: keep the first numbers of each embedding.
            options: pool and chunk_size change nothing.

        Returns:
            [n, width], or without the first axis for one text.
        """
        refuse_options("encode", {**{k: v for k, v in options.items() if k != "sentences"}, "device": device})
        texts = taken_texts("inputs", inputs, options, "sentences")
        one_of("output_value", output_value, ("sentence_embedding", "token_embeddings"))
        before = self.prompt_of(prompt, prompt_name)
        if output_value == "token_embeddings":
            rows = self.model.token_embeddings(texts, prompt=before, batch_size=batch_size)
            return as_tensor(rows) if isinstance(texts, str) else [as_tensor(row) for row in rows]
        found = self.model.encode(
            texts,
            prompt=before,
            batch_size=batch_size,
            truncate_dim=self.truncate_dim if truncate_dim is None else truncate_dim,
            precision=precision or "float32",
            normalize_embeddings=normalize_embeddings,
            show_progress_bar=bool(show_progress_bar),
        )
        if flag("convert_to_tensor", convert_to_tensor):
            return as_tensor(found)
        if flag("convert_to_numpy", convert_to_numpy):
            return found
        return as_tensor(found) if isinstance(texts, str) else [as_tensor(row) for row in found]

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """[n, m] of [n, width] and [m, width]: a tensor where PyTorch is installed, as programs expect it, else an array."""
        return like_torch(similarity(self._similarity, embeddings1, embeddings2))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """[n] of [n, width] and [n, width]: a tensor where PyTorch is installed, as programs expect it, else an array."""
        return like_torch(pairwise_similarity(self._similarity, embeddings1, embeddings2))

    def get_embedding_dimension(self) -> int:
        """How many numbers an embedding has."""
        width = self.model.embedding_size
        return width if self.truncate_dim is None else min(width, self.truncate_dim)

    def get_sentence_embedding_dimension(self) -> int:
        """`get_embedding_dimension`, by its older name."""
        return self.get_embedding_dimension()

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Keeps so many numbers of an embedding within a `with` block."""
        before, self.truncate_dim = self.truncate_dim, truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    # The same, by its older name.
    truncate_sentence_embeddings = truncate_embeddings

    def start_multi_process_pool(self, target_devices: Any = None) -> dict[str, Any]:
        """Nothing: threads share the work, one copy of the model does for all of them."""
        return {}

    def stop_multi_process_pool(self, pool: Any) -> None:
        """Nothing."""

    def encode_multi_process(self, sentences: Any, pool: Any = None, *args: Any, **options: Any) -> np.ndarray:
        """`encode`: threads share the work."""
        found: np.ndarray = self.encode(sentences, *args, **options)
        return found

    def evaluate(self, evaluator: Any, output_path: str | None = None) -> Any:
        """Runs one of sentence-transformers' evaluators."""
        if not callable(evaluator):
            raise AerogelError(f"evaluator: expected something to call, got {shown(evaluator)}")
        return evaluator(self, output_path)

"""SparseEncoder by another engine."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from aerogel._util.checks import flag, instance, whole_number
from aerogel.engine.embeddings import pairwise_similarity, similarity
from aerogel.engine.sentence_transformers.encoding import EncodingWrapper
from aerogel.engine.sentence_transformers.wrapper import refuse_options, taken_texts
from aerogel.engine.sparse_vectors import SparseVectors
from aerogel.engine.tensors import as_tensor, like_torch
from aerogel.errors import UnsupportedModelError


class SparseEncoder(EncodingWrapper):
    """Embeds texts as weights of a vocabulary's terms, with the calls of sentence-transformers' class of this name.

    Args:
        model_name_or_path: a masked language model (SPLADE), as `aerogel.load` takes it, packed models too.
        max_active_dims: keep so many of a text's terms, the heaviest; all unless given.
        similarity_fn_name: "cosine", "dot", "euclidean" or "manhattan"; unless given as the model's files say, else dot.
        options: see `Wrapper`.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        *,
        max_active_dims: int | None = None,
        similarity_fn_name: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model_name_or_path, **options)
        if "terms" not in self.model.outputs:
            self.close()
            raise UnsupportedModelError(f"{model_name_or_path}: not a masked language model")
        #: The most terms of a text; None: all.
        self.max_active_dims = None if max_active_dims is None else whole_number("max_active_dims", max_active_dims, 1)
        self._similarity = self.model.similarity_fn_name if self.model.says_similarity else "dot"
        if similarity_fn_name is not None:
            self.similarity_fn_name = similarity_fn_name

    def encode(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool = True,
        save_to_cpu: bool = False,
        device: Any = None,
        max_active_dims: int | None = None,
        task: str | None = None,
        **options: Any,
    ) -> Any:
        """Embeds texts.

        Args:
            inputs: one text or many (`sentences`, by its older name).
            prompt_name: the prompt before each text, one of `prompts`.
            prompt: the prompt itself.
            batch_size: the most texts that are run at once.
            show_progress_bar: show a bar on stderr.
            convert_to_tensor: give one tensor [n, vocabulary]; False: a list of tensors, one a text.
            convert_to_sparse_tensor: give sparse tensors; False: dense ones.
            save_to_cpu: they are there.
            device: "cpu".
            max_active_dims: keep so many of a text's terms, the heaviest.
            task: "query" or "document", see `Model.encode_sparse`.
            options: pool and chunk_size change nothing.

        Returns:
            Tensors; without PyTorch what `Model.encode_sparse` gives, or an array where dense ones are asked for.
        """
        refuse_options("encode", {**{k: v for k, v in options.items() if k != "sentences"}, "device": device})
        texts = taken_texts("inputs", inputs, options, "sentences")
        found = self.model.encode_sparse(
            texts,
            self.prompt_of(prompt, prompt_name),
            task=task,
            max_active_dims=self.max_active_dims if max_active_dims is None else max_active_dims,
            batch_size=batch_size,
            show_progress_bar=bool(show_progress_bar),
        )
        sparse = flag("convert_to_sparse_tensor", convert_to_sparse_tensor)
        if not _has_torch():
            return found if sparse else found.toarray()
        tensor = found.totensor() if sparse else as_tensor(found.toarray())
        if isinstance(texts, str):
            return tensor[0]
        return tensor if flag("convert_to_tensor", convert_to_tensor) else list(tensor)

    def encode_query(
        self, inputs: Any = None, prompt_name: str | None = None, prompt: str | None = None, *args: Any, **options: Any
    ) -> Any:
        """As every class that embeds, and from the model's table where it has one for queries."""
        return super().encode_query(inputs, prompt_name, prompt, *args, **{"task": "query", **options})

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """[n, m] of what `encode` gave for n and for m texts: a tensor where PyTorch is installed, else an array."""
        first, second = embeddings1, embeddings2
        if self._similarity == "dot" and isinstance(first, SparseVectors) and isinstance(second, SparseVectors):
            return like_torch(first.dot(second))
        return like_torch(similarity(self._similarity, _dense(first), _dense(second)))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """[n] of what `encode` gave for n and for n texts: a tensor where PyTorch is installed, else an array."""
        return like_torch(pairwise_similarity(self._similarity, _dense(embeddings1), _dense(embeddings2)))

    def get_embedding_dimension(self) -> int:
        """How many terms the vocabulary has."""
        return self.model.vocab_size

    def get_sentence_embedding_dimension(self) -> int:
        """`get_embedding_dimension`, by its older name."""
        return self.get_embedding_dimension()

    def decode(self, embeddings: Any, top_k: int | None = None) -> Any:
        """The terms of a text and their weights, the heaviest first: [(term, weight), ...]; a list of such lists for
        embeddings of several texts.

        Args:
            embeddings: what `encode` gave.
            top_k: the most terms of a text.
        """
        most = None if top_k is None else whole_number("top_k", top_k, 1)
        values = _dense(embeddings)
        found = []
        for row in np.atleast_2d(values):
            terms = np.flatnonzero(row)
            order = terms[np.argsort(-row[terms], kind="stable")][:most]
            found.append([(self.tokenizer.token_of(int(term)), float(row[term])) for term in order])
        return found[0] if values.ndim == 1 else found

    @staticmethod
    def sparsity(embeddings: Any) -> dict[str, float]:
        """ "active_dims": how many terms a text has on average; "sparsity_ratio": the share of the others."""
        values = np.atleast_2d(_dense(embeddings))
        active = float(np.count_nonzero(values, axis=1).mean()) if values.size else 0.0
        return {"active_dims": active, "sparsity_ratio": 1 - active / max(values.shape[1], 1)}


def _has_torch() -> bool:
    return not isinstance(like_torch(np.zeros(1, np.float32)), np.ndarray)


def _dense(embeddings: Any) -> np.ndarray:
    """An array of vectors in any of the forms that `encode` gives."""
    if isinstance(embeddings, SparseVectors):
        return embeddings.toarray()
    if isinstance(embeddings, (list, tuple)):
        return np.stack([_dense(one) for one in embeddings])
    dense = embeddings.to_dense() if getattr(embeddings, "is_sparse", False) else embeddings
    return instance("embeddings", np.asarray(dense, np.float32), np.ndarray)

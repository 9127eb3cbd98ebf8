"""A model's embeddings of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aerogel._util.checks import flag, function, one_of, whole_number
from aerogel._util.checks import texts as check_texts
from aerogel._util.progress import Progress
from aerogel.checkpoint.messages import text_prompts
from aerogel.engine.core import Core
from aerogel.engine.embeddings import PRECISIONS, normalized, pairwise_similarity, quantized, shortened, similarity
from aerogel.engine.progress_bar import shown_progress
from aerogel.engine.tensors import as_tensor
from aerogel.engine.text_runner import BATCH_TOKENS
from aerogel.engine.work import Work, check_lengths
from aerogel.errors import UnsupportedModelError


class Embedder(Core):
    """`encode` and what is done with its results."""

    def encode(
        self,
        texts: str | Sequence[str],
        batch_tokens: int = BATCH_TOKENS,
        normalize: bool | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        *,
        batch_size: int | None = None,
        truncate_dim: int | None = None,
        precision: str = "float32",
        normalize_embeddings: bool = False,
        convert_to_tensor: bool = False,
        show_progress_bar: bool = False,
        progress: Progress | None = None,
    ) -> Any:
        """Embeds texts.

        Texts of any lengths mix: they are run end to end without padding. A text longer than `max_tokens` is cut there,
        as sentence-transformers does; the log says so once.

        Args:
            texts: one text or many; the empty text is fine.
            batch_tokens: tokens that are run at once. It limits memory, and does not change the result.
            normalize: scale embeddings to length 1 or not; None: as the model's authors do.
            prompt: stands before each text, such as "query: "; "" is none. Unless given the model's default, if it has one.
            prompt_name: one of the model's own, see `prompts`.
            batch_size: the most texts that are run at once; as `batch_tokens` says unless given.
            truncate_dim: keep the first numbers of each embedding only; unless given as the model's authors do.
            precision: "float32"; "int8", "uint8", "binary" or "ubinary" code the embeddings as sentence-transformers does.
            normalize_embeddings: True: scale to length 1, by sentence-transformers' name; False: as `normalize` says.
            convert_to_tensor: give a PyTorch tensor instead of an array.
            show_progress_bar: show a bar on stderr.
            progress: called as progress(done, total, "texts").

        Returns:
            [n, embedding_size], or [embedding_size] for a single string; float32 unless `precision` says otherwise.
        """
        one = isinstance(texts, str)
        normalize = True if flag("normalize_embeddings", normalize_embeddings) else normalize
        found = [texts] if isinstance(texts, str) else texts
        work = self.embedding_work(found, prompt, prompt_name, normalize, truncate_dim)
        batch_tokens = whole_number("batch_tokens", batch_tokens, 1)
        batch_size = None if batch_size is None else whole_number("batch_size", batch_size, 1)
        one_of("precision", precision, PRECISIONS)
        flag("convert_to_tensor", convert_to_tensor)
        function("progress", progress)
        result = np.empty((len(work.ids), work.width), np.float32)
        if work.ids:
            with shown_progress("texts", flag("show_progress_bar", show_progress_bar), progress) as report:
                self._texts().fill(result, work.ids, None, work.output, batch_tokens, batch_size, report)
        coded = quantized(work.finish(result), precision)
        return as_tensor(coded[0] if one else coded) if convert_to_tensor else coded[0] if one else coded

    def embedding_work(
        self,
        texts: Sequence[str],
        prompt: str | None = None,
        prompt_name: str | None = None,
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        truncate: bool = True,
    ) -> Work:
        """What `encode` runs for texts; the arguments are its.

        Raises:
            DataError: a text is longer than `max_tokens`, and `truncate` is False; and as `encode`.
        """
        if "embedding" not in self.outputs:
            raise UnsupportedModelError(f"{self._checkpoint.path}: not an embedding model: it has no pooling")
        found = check_texts("texts", texts)
        if normalize is not None:
            normalize = flag("normalize", normalize)
        pooling = self._open.pooling
        assert pooling is not None
        dimensions = pooling.dimensions if truncate_dim is None else whole_number("truncate_dim", truncate_dim, 1)
        before = self.prompt_text(prompt, prompt_name)

        def finish(rows: np.ndarray) -> np.ndarray:
            shorter = shortened(rows, dimensions)
            return normalized(shorter) if normalize and (shorter is not rows or not pooling.normalize) else shorter

        output = "pooled" if normalize is False else "embedding"
        ids = self._tokens(found, before, truncate) if found else []
        return Work(output, ids, None, False, pooling.width(self.hidden_size), finish)

    def token_embeddings(
        self, texts: str | Sequence[str], prompt: str | None = None, batch_size: int | None = None
    ) -> Any:
        """The hidden states of each text's tokens, special ones included: a list of float32 [tokens, hidden_size], or one
        of them for a single string. The arguments are those of `encode`."""
        found = check_texts("texts", [texts] if isinstance(texts, str) else texts)
        batch_size = None if batch_size is None else whole_number("batch_size", batch_size, 1)
        before = self.prompt_text(prompt, None)
        rows: list[np.ndarray] = []
        if found:
            ids = self._tokens(found, before)
            for _, _, hidden, ends in self._texts().run(ids, None, "hidden", BATCH_TOKENS, batch_size):
                rows += np.split(hidden, ends[1:-1])
        return rows[0] if isinstance(texts, str) else rows

    def _tokens(self, texts: Sequence[str], before: str, truncate: bool = True) -> list[list[int]]:
        """The tokens of texts: behind a prompt, which is the instruction where a chat template writes what is embedded."""
        prompts = text_prompts(self._checkpoint)
        if prompts is None:
            return self._texts().tokenize([before + text for text in texts], truncate)
        ids = prompts.encode(prompts.alone(texts, before), self.max_tokens if truncate else None, before)
        check_lengths(ids, self.max_tokens)
        return ids

    def encode_query(self, texts: str | Sequence[str], **options: Any) -> Any:
        """`encode`, after the model's prompt for queries, if it has one and `prompt` or `prompt_name` name no other."""
        return self.encode(texts, **self._for_task(options, ("query",)))

    def encode_document(self, texts: str | Sequence[str], **options: Any) -> Any:
        """`encode`, after the model's prompt for documents, if it has one and `prompt` or `prompt_name` name no other."""
        return self.encode(texts, **self._for_task(options, ("document", "passage", "corpus")))

    def _for_task(self, options: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
        if options.get("prompt") is not None or options.get("prompt_name") is not None:
            return options
        known = self._checkpoint.prompts.texts
        name = next((name for name in names if name in known), None)
        return {**options, "prompt_name": name}

    @property
    def similarity_fn_name(self) -> str:
        """How the model's authors compare embeddings: "cosine", which is also where they are silent, "dot", "euclidean" or
        "manhattan"."""
        return self._checkpoint.similarity or "cosine"

    @property
    def says_similarity(self) -> bool:
        """Whether the model's files say how to compare embeddings."""
        return self._checkpoint.similarity is not None

    def similarity(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """float32 [n, m]: how alike each of `embeddings1` [n, width] is to each of `embeddings2` [m, width], by
        `similarity_fn_name`: the larger, the more alike."""
        return similarity(self.similarity_fn_name, embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """float32 [n]: how alike row i of `embeddings1` [n, width] is to row i of `embeddings2` [n, width]."""
        return pairwise_similarity(self.similarity_fn_name, embeddings1, embeddings2)

    def get_sentence_embedding_dimension(self) -> int:
        """`embedding_size`, by the name that sentence-transformers gave it."""
        return self.embedding_size

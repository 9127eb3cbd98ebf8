"""A masked language model's sparse embeddings of texts: weights of the vocabulary's terms (SPLADE, arXiv 2109.10086)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aerogel._util.checks import flag, one_of, whole_number
from aerogel._util.checks import texts as check_texts
from aerogel.engine.core import Core
from aerogel.engine.progress_bar import shown_progress
from aerogel.engine.sparse_vectors import SparseVectors
from aerogel.engine.work import Work
from aerogel.errors import UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.checkpoint.query_terms import QueryTerms

#: Numbers of logits at once: a text's are as many as its tokens times the vocabulary.
LOGITS = 1 << 24
#: Queries that are looked up at once.
QUERIES = 64


class SparseEmbedder(Core):
    """`encode_sparse`."""

    def encode_sparse(
        self,
        texts: str | Sequence[str],
        prompt: str | None = None,
        prompt_name: str | None = None,
        *,
        task: str | None = None,
        max_active_dims: int | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool = False,
    ) -> SparseVectors:
        """Weights of the vocabulary's terms: log(1 + max(0, logit)) of a term, the largest over the text's tokens.

        Args:
            texts: one text or many.
            prompt: stands before each text.
            prompt_name: one of the model's own, see `prompts`.
            task: "query" or "document". Some models make embeddings of queries from a table, which costs next to nothing:
                "query" uses it where there is one. Unless given the model itself is run.
            max_active_dims: keep so many of a text's terms, the heaviest.
            batch_size: the most texts that are run at once.
            show_progress_bar: show a bar on stderr.

        Returns:
            Vectors [n, vocab_size], one for a single string too.

        Raises:
            UnsupportedModelError: the model is no masked language model.
        """
        if "terms" not in self.outputs:
            raise UnsupportedModelError(f"{self._checkpoint.path}: not a masked language model")
        found = check_texts("texts", [texts] if isinstance(texts, str) else texts)
        batch_size = None if batch_size is None else whole_number("batch_size", batch_size, 1)
        most = None if max_active_dims is None else whole_number("max_active_dims", max_active_dims, 1)
        if task is not None and one_of("task", task, ("query", "document")) == "query":
            table = self._checkpoint.query_terms
            if table is not None:
                before = self.prompt_text(prompt, prompt_name)
                return _looked_up(table, [before + text for text in found], most)
        work = self.sparse_work(found, prompt, prompt_name)
        assert work.batch_tokens is not None
        parts: list[SparseVectors] = []
        with shown_progress("texts", flag("show_progress_bar", show_progress_bar), None) as report:
            for _, _, logits, _ in self._texts().run(
                work.ids, None, work.output, work.batch_tokens, batch_size, report
            ):
                parts.append(SparseVectors.of(work.finish(logits), most))
        return SparseVectors.joined(parts, self.vocab_size)

    def sparse_work(
        self, texts: Sequence[str], prompt: str | None = None, prompt_name: str | None = None, truncate: bool = True
    ) -> Work:
        """What `encode_sparse` runs for texts, whose arguments these are: rows are dense, [k, vocab_size].

        Raises:
            DataError: a text is longer than `max_tokens`, and `truncate` is False; and as `encode_sparse`.
        """
        if "terms" not in self.outputs:
            raise UnsupportedModelError(f"{self._checkpoint.path}: not a masked language model")
        found = check_texts("texts", texts)
        before = self.prompt_text(prompt, prompt_name)
        ids = self._texts().tokenize([before + text for text in found], truncate) if found else []
        twice = self._checkpoint.term_activation == "log1p_relu"

        def finish(logits: np.ndarray) -> np.ndarray:
            weights: np.ndarray = np.log1p(np.maximum(logits, 0))
            return np.log1p(weights) if twice else weights

        return Work("terms", ids, None, False, self.vocab_size, finish, max(1, LOGITS // self.vocab_size))


def _looked_up(table: QueryTerms, texts: Sequence[str], most: int | None) -> SparseVectors:
    """Embeddings of queries from a table."""
    parts = [texts[i : i + QUERIES] for i in range(0, len(texts), QUERIES)]
    return SparseVectors.joined([SparseVectors.of(table.of(part), most) for part in parts], len(table.weights))

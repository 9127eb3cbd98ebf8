"""A model's scores of texts and of pairs of texts: classifiers and rerankers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aerogel._util.checks import flag, text, whole_number
from aerogel._util.checks import texts as check_texts
from aerogel._util.progress import Progress
from aerogel.checkpoint.messages import pair_prompts
from aerogel.engine.core import Core
from aerogel.engine.progress_bar import shown_progress
from aerogel.engine.rerank import ACTIVATIONS, Activation, activated, activation, split_pairs
from aerogel.engine.tensors import as_tensor
from aerogel.engine.text_runner import BATCH_TOKENS
from aerogel.engine.work import Work, check_lengths
from aerogel.errors import DataError, UnsupportedModelError


class Scorer(Core):
    """`scores`, and what sentence-transformers' CrossEncoder does with them."""

    def scores(
        self,
        texts: str | Sequence[str],
        pairs: str | Sequence[str] | None = None,
        batch_tokens: int = BATCH_TOKENS,
        *,
        batch_size: int | None = None,
        progress: Progress | None = None,
        prompt: str = "",
    ) -> np.ndarray:
        """Runs a classifier: its raw scores (logits), before any softmax or sigmoid.

        Args:
            texts: one text or many.
            pairs: for a reranker, the text that goes with each of `texts`, or one for all of them.
            batch_tokens: tokens that are run at once.
            batch_size: the most texts that are run at once; as `batch_tokens` says unless given.
            progress: called as progress(done, total, "texts").
            prompt: what is asked of a pair: the instruction where the model's chat template writes pairs; elsewhere it
                stands before the first text.

        Returns:
            float32 [n, labels], or [labels] for a single string.
        """
        if isinstance(texts, str):
            scores: np.ndarray = self.scores([texts], pairs, batch_tokens, prompt=prompt)[0]
            return scores
        work = self.score_work(texts, pairs, prompt)
        batch_tokens = whole_number("batch_tokens", batch_tokens, 1)
        batch_size = None if batch_size is None else whole_number("batch_size", batch_size, 1)
        result = np.empty((len(work.ids), work.width), np.float32)
        if work.ids:
            self._texts().fill(result, work.ids, work.types, work.output, batch_tokens, batch_size, progress)
        return result

    def score_work(
        self,
        texts: Sequence[str],
        pairs: str | Sequence[str] | None = None,
        prompt: str = "",
        activate: Activation | None = None,
        truncate: bool = True,
    ) -> Work:
        """What `scores` runs for texts or pairs; the arguments are its.

        `activate`: what is done to the scores, float32 [k, labels], row by row; None: nothing.

        Raises:
            DataError: a text or a pair is longer than `max_tokens`, and `truncate` is False; and as `scores`.
        """
        if "scores" not in self.outputs:
            hint = "; load(rerank=) lets a language model score pairs" if self._architecture.generates else ""
            raise UnsupportedModelError(
                f"{self._checkpoint.path}: not a classifier: expected a model that gives scores, got one that gives "
                f"{', '.join(self.outputs)}{hint}"
            )
        texts = check_texts("texts", texts)
        text("prompt", prompt, DataError)
        finish = activate or ACTIVATIONS["identity"]
        if not texts:
            return Work("scores", [], None, False, self._architecture.labels, finish)
        types = None
        if pairs is None:
            ids = self._texts().tokenize([prompt + one for one in texts] if prompt else texts, truncate)
        else:
            pairs = [pairs] * len(texts) if isinstance(pairs, str) else check_texts("pairs", pairs)
            ids, types = self._pairs(texts, pairs, prompt, self.max_tokens if truncate else None)
            check_lengths(ids, self.max_tokens)
        if types is None:
            ids = [list(self._architecture.scored(row)) for row in ids]
        return Work("scores", ids, types, False, self._architecture.labels, finish)

    def _pairs(
        self, first: Sequence[str], second: Sequence[str], prompt: str, most: int | None
    ) -> tuple[list[list[int]], list[list[int]] | None]:
        """The tokens of pairs, at most so many of each, and their types where the model has such."""
        prompts = pair_prompts(self._checkpoint)
        if prompts is not None:
            return prompts.encode(prompts.pairs(first, second, prompt), most, prompt), None
        first = [prompt + one for one in first] if prompt else first
        ids, kinds = self.tokenizer.encode_pair(first, second, most)
        return ids, self._known_types(kinds)

    def predict(
        self,
        pairs: Sequence[Any],
        *,
        activation_fn: str | Callable[[np.ndarray], np.ndarray] | None = None,
        apply_softmax: bool = False,
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_size: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        show_progress_bar: bool = False,
        convert_to_tensor: bool = False,
    ) -> Any:
        """Scores pairs of texts, as sentence-transformers' CrossEncoder does.

        Args:
            pairs: [(query, document), ...], or a single pair.
            activation_fn: what is done to the scores: "sigmoid", "identity", "tanh", "softmax" or a function of float32
                [n, labels]; unless given as the model's files say, else the sigmoid where there is one label.
            apply_softmax: scores of several labels that sum to 1.
            prompt: stands before the first text of each pair, or is the instruction where a chat template writes pairs.
            prompt_name: one of the model's own, see `prompts`.
            batch_size: the most pairs that are run at once; as `batch_tokens` says unless given.
            batch_tokens: tokens that are run at once.
            show_progress_bar: show a bar on stderr.
            convert_to_tensor: give a PyTorch tensor instead of an array.

        Returns:
            float32 [n], or [n, labels] where there are several labels; without the first axis for a single pair.
        """
        one, first, second = split_pairs(pairs)
        activate = self.score_activation(activation_fn)
        flag("apply_softmax", apply_softmax)
        before = self.prompt_text(prompt, prompt_name)
        with shown_progress("pairs", flag("show_progress_bar", show_progress_bar), None) as report:
            raw = self.scores(first, second, batch_tokens, batch_size=batch_size, progress=report, prompt=before)
        found = activated(activate, raw, apply_softmax)
        return as_tensor(found[0] if one else found) if convert_to_tensor else found[0] if one else found

    def score_activation(self, wanted: str | Activation | None = None) -> Activation:
        """What `predict` does to scores: `wanted`, else what the model's files say, else the sigmoid of one label."""
        return activation(wanted, self._checkpoint.score_activation, self._architecture.labels)

    def class_activation(self) -> Activation:
        """What makes probabilities of a text's scores, as Transformers' pipeline for classification does: the sigmoid where
        there is one label or several may hold at once, else softmax."""
        several = self.config.get("problem_type") == "multi_label_classification"
        return ACTIVATIONS["sigmoid" if several or self._architecture.labels == 1 else "softmax"]

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Orders documents by their scores for a query, the best first: [{"corpus_id", "score", "text" if wanted}, ...].

        Args:
            query: one text.
            documents: what to order.
            top_k: how many to return; all unless given.
            return_documents: return their texts too.
            options: of `predict`.

        Raises:
            UnsupportedModelError: the model has several labels.
        """
        [query] = check_texts("query", [query])
        documents = check_texts("documents", documents)
        top_k = None if top_k is None else whole_number("top_k", top_k, 0)
        flag("return_documents", return_documents)
        if "scores" in self.outputs and self._architecture.labels != 1:
            raise UnsupportedModelError(
                f"{self._checkpoint.path}: rank: expected a model with one label, got {self._architecture.labels}"
            )
        scores = self.predict([(query, document) for document in documents], **options)
        order = sorted(range(len(documents)), key=lambda i: -float(scores[i]))[:top_k]
        return [
            {"corpus_id": i, "score": float(scores[i]), **({"text": documents[i]} if return_documents else {})}
            for i in order
        ]

"""A model's findings about the tokens of texts: named entities and the like, answers to questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from aerogel._util.checks import flag, one_of, whole_number
from aerogel._util.checks import texts as check_texts
from aerogel.engine.core import Core
from aerogel.engine.text_runner import BATCH_TOKENS
from aerogel.engine.token_tasks import AGGREGATIONS, Answer, Run, TokenSpan, answer, classify_tokens
from aerogel.engine.token_vectors import LEXICAL, VECTORS, lexical_weights
from aerogel.engine.work import Work
from aerogel.errors import UnsupportedModelError

_NO_VECTORS = "not a model that makes a vector of each token"


class TokenReader(Core):
    """`classify_tokens` and `answer`."""

    @overload
    def classify_tokens(self, texts: str, aggregation: str = ..., batch_tokens: int = ...) -> list[TokenSpan]: ...  # type: ignore[overload-overlap]

    @overload
    def classify_tokens(
        self, texts: Sequence[str], aggregation: str = ..., batch_tokens: int = ...
    ) -> list[list[TokenSpan]]: ...

    def classify_tokens(
        self, texts: str | Sequence[str], aggregation: str = "simple", batch_tokens: int = BATCH_TOKENS
    ) -> list[TokenSpan] | list[list[TokenSpan]]:
        """Runs a token classifier, such as one of named entities, as Transformers' pipeline of that name does.

        Args:
            texts: one text or many; what is behind `max_tokens` of a text is not looked at.
            aggregation: "none": a span is a token. "simple": neighbours of one label are one span, and B- begins another.
                "first", "max", "average": words first, by their first token, their surest, or the mean of all; then spans.
            batch_tokens: tokens that are run at once.

        Returns:
            The spans of each text, in its order, without those of the label O: label, score, and which characters; a list
            of them for a single string.
        """
        if isinstance(texts, str):
            return self.classify_tokens([texts], aggregation, batch_tokens)[0]
        run = self._token_runner("token_scores", "not a classifier of tokens", batch_tokens)
        known, texts = one_of("aggregation", aggregation, AGGREGATIONS), check_texts("texts", texts)
        return classify_tokens(texts, self.tokenizer, run, self.labels, known, self.max_tokens)

    def answer(self, question: str, context: str, max_answer_tokens: int = 15, impossible: bool = False) -> Answer:
        """Answers a question with a part of the context, as Transformers' pipeline for question answering does.

        Args:
            question: a text.
            context: a text of any length: it is read in windows that overlap.
            max_answer_tokens: the most tokens of an answer.
            impossible: whether there may be no answer, which a model has to be trained for; then the text is empty.

        Returns:
            The likeliest answer: text, score, and which characters of the context.

        Raises:
            DataError: no text.
            TokenizerError: the question leaves no room for the context.
        """
        run = self._token_runner("spans", "not a model for question answering", BATCH_TOKENS)
        question, context = check_texts("question and context", [question, context])
        longest = whole_number("max_answer_tokens", max_answer_tokens, 1)
        may = flag("impossible", impossible)
        return answer(question, context, self.tokenizer, run, longest, may, self.max_tokens)

    def encode_tokens(
        self,
        texts: str | Sequence[str],
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> Any:
        """A vector of each token of texts, for late interaction (ColBERT; see `token_vectors.maxsim`).

        Markers of queries and documents are the caller's, as prompts; queries are not filled up with mask tokens, and no
        token of a text is left out (BGE-M3's first, which it does not use, excepted).

        Args:
            texts: one text or many; longer ones than `max_tokens` are cut there.
            prompt: as `encode`.
            prompt_name: as `encode`.
            batch_tokens: tokens that are run at once.

        Returns:
            float32 [t, d] of each text, rows of length 1; one such array for a single string.
        """
        if isinstance(texts, str):
            return self.encode_tokens([texts], prompt, prompt_name, batch_tokens)[0]
        work = self.token_work(texts, prompt, prompt_name)
        run = self._token_runner(work.output, _NO_VECTORS, batch_tokens)
        return [work.finish(rows) for rows in run(work.ids, [[0] * len(one) for one in work.ids])]

    def token_work(
        self,
        texts: Sequence[str],
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncate: bool = True,
        hidden: bool = False,
    ) -> Work:
        """What `encode_tokens` runs for texts, whose arguments these are.

        `hidden`: where the model makes no vectors of tokens their hidden states are taken.

        Raises:
            DataError: a text is longer than `max_tokens`, and `truncate` is False; and as `encode_tokens`.
        """
        output = next((name for name in VECTORS if name in self.outputs), "hidden" if hidden else None)
        if output not in self.outputs:
            raise UnsupportedModelError(f"{self._checkpoint.path}: {_NO_VECTORS}")
        before = self.prompt_text(prompt, prompt_name)
        ids = self._texts().tokenize([before + text for text in check_texts("texts", texts)], truncate)
        skipped = VECTORS.get(output, 0)
        return Work(output, ids, None, True, self.hidden_size, lambda rows: rows[skipped:])

    def lexical_weights(self, texts: str | Sequence[str], batch_tokens: int = BATCH_TOKENS) -> Any:
        """How much each token of a text counts in a search by words (BGE-M3, arXiv 2402.03216).

        Args:
            texts: one text or many.
            batch_tokens: tokens that are run at once.

        Returns:
            Of each text {token id: weight above 0}; one such mapping for a single string.
        """
        if isinstance(texts, str):
            return self.lexical_weights([texts], batch_tokens)[0]
        run = self._token_runner(LEXICAL, "not a model that weighs tokens", batch_tokens)
        ids = self._texts().tokenize(check_texts("texts", texts))
        rest = {self.tokenizer.unk_id, self.tokenizer.bos_id, *self.tokenizer.eos_ids, self.config.get("pad_token_id")}
        unused = self.tokenizer.around | {token for token in rest if token is not None}
        return lexical_weights(ids, run(ids, [[0] * len(one) for one in ids]), unused)

    def _token_runner(self, output: str, otherwise: str, batch_tokens: int) -> Run:
        """Runs sequences for what `output` says of their tokens."""
        if output not in self.outputs:
            raise UnsupportedModelError(f"{self._checkpoint.path}: {otherwise}")
        most = whole_number("batch_tokens", batch_tokens, 1)

        def run(ids: list[list[int]], types: list[list[int]]) -> list[np.ndarray]:
            found: list[np.ndarray] = []
            for _, _, rows, ends in self._texts().run(ids, self._known_types(types), output, most):
                found += np.split(rows, ends[1:-1])
            return found

        return run

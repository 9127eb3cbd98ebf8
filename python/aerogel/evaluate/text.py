"""Perplexity of a language model on a text, and how far its next-token distributions are from a dense model's.

The text is one list of ids, without special tokens, cut in windows that do not overlap (stride = window). Each window is
run alone from an empty cache. Where the tokenizer itself puts tokens before a text (BOS), every window begins with
them, they count towards its length, and all of the window's own tokens are scored; otherwise its first token is context
only. The last, shorter window counts too. Perplexity = exp(mean negative log-likelihood over scored tokens).

Numbers of papers that overlap windows or count per word are lower; only the same protocol compares.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from aerogel._util.checks import whole_number
from aerogel.errors import DataError, UnsupportedModelError
from aerogel.evaluate.files import read_text
from aerogel.evaluate.task import Score, Task, compared, method_of

#: Tokens of a window unless told otherwise.
CONTEXT = 512
#: Rows of logits that are worked on at once: temporaries stay small beside the logits of a window.
ROWS = 32


class Windows(NamedTuple):
    """What a model said of each window, float64 [windows]; sums over its scored tokens.

    Attributes:
        tokens: scored ones, int64.
        nll: negative log-likelihood in nats.
        prefix: tokens that were put before each window.
        kl: KL(dense || model) in nats, or None without a dense model.
        same: how often both find the same token most likely, or None.
    """

    tokens: np.ndarray
    nll: np.ndarray
    prefix: int
    kl: np.ndarray | None = None
    same: np.ndarray | None = None


class Text(Task[Windows]):
    """A text to predict token by token."""

    name, metric, lower_is_better = "text", "perplexity", True

    def __init__(self, file: str | os.PathLike[str], context: int = CONTEXT) -> None:
        super().__init__({"text": file})
        self._take(read_text(file), context)

    @classmethod
    def of(cls, text: str, set_name: str, context: int = CONTEXT) -> Text:
        """Of a text that is no file; `set_name` is what tables call it."""
        found = cls.__new__(cls)
        Task.__init__(found, {}, set_name)
        found._take(text, context)
        return found

    def _take(self, text: str, context: int) -> None:
        self.context = whole_number("context", context, 2, error=DataError)
        self.text = text

    def evaluate(self, model: Any, against: Any = None) -> Score:
        # Side by side, window by window: two models' logits for a whole text would be gigabytes.
        return self.score(*self._run(model, against))

    def answer(self, model: Any) -> Windows:
        return self._run(model, None)[0]

    def _run(self, model: Any, against: Any) -> tuple[Windows, Windows | None]:
        models = [model] if against is None else [model, against]
        for each in models:
            method_of(each, "forward")
            method_of(getattr(each, "tokenizer", None), "encode")
        for each in models:
            self._require(each)
        ids, prefix = self._ids(model)
        if against is not None and self._ids(against) != (ids, prefix):
            raise DataError("the two models have different tokenizers: their perplexities cannot be compared")
        counts: list[int] = []
        sums: list[np.ndarray] = []  # [4] each: nll, dense nll, KL, same
        for window, scored in self._windows(ids, prefix):
            logits = [_logits(each, window) for each in models]
            first, targets = len(window) - len(scored) - 1, np.array(scored)
            total = np.zeros(4)
            for begin in range(0, len(targets), ROWS):
                chosen = targets[begin : begin + ROWS]
                rows = slice(first + begin, first + begin + len(chosen))
                total += _sums(chosen, *(each[rows] for each in logits))
            if not np.isfinite(total).all():
                raise DataError(f"logits: expected finite numbers, got NaN or infinity in window {len(counts)}")
            counts.append(len(targets))
            sums.append(total)
        tokens, table = np.array(counts), np.array(sums)
        if against is None:
            return Windows(tokens, table[:, 0], len(prefix)), None
        own = Windows(tokens, table[:, 0], len(prefix), table[:, 2], table[:, 3])
        return own, Windows(tokens, table[:, 1], len(prefix))

    def score(self, answers: Windows, dense: Windows | None = None) -> Score:
        def figures(of: Windows, chosen: np.ndarray) -> dict[str, float]:
            nll = float(of.nll[chosen].sum() / of.tokens[chosen].sum())
            return {"perplexity": math.exp(min(nll, 700.0)), "nll": nll}

        def agreement(own: Windows, _: Windows, chosen: np.ndarray) -> dict[str, float]:
            if own.kl is None or own.same is None:
                return {}
            count = own.tokens[chosen].sum()
            return {"kl_mean": float(own.kl[chosen].sum() / count), "same_top": float(own.same[chosen].sum() / count)}

        found, against = compared(len(answers.tokens), figures, self.metric, answers, dense, agreement)
        facts = {
            "file": self.files.get("text", self.set_name),
            "tokens": int(answers.tokens.sum()),
            "windows": len(answers.tokens),
            "context": self.context,
            "prefix": answers.prefix,
        }
        return Score(self.name, self.metric, found, answers.nll / answers.tokens, True, facts, against)

    def _require(self, model: Any) -> None:
        if "logits" not in getattr(model, "outputs", ("logits",)):
            raise UnsupportedModelError(f"{model}: has no logits, so no perplexity")
        if not getattr(getattr(model, "_architecture", None), "generates", True):
            raise UnsupportedModelError(
                f"{model}: is a masked language model, which sees the token that it is to predict; pseudo-perplexity, "
                "with each token masked in its turn, is not supported"
            )
        most = getattr(model, "max_tokens", self.context)
        if self.context > most:
            raise DataError(f"context: expected at most {most} tokens, all that the model has, got {self.context}")

    def _ids(self, model: Any) -> tuple[list[int], list[int]]:
        """The text's ids, and the special ones that the tokenizer puts before a text."""
        whole = list(model.tokenizer.encode([self.text])[0])
        around = list(model.tokenizer.encode([""])[0])
        before = next(n for n in range(len(around), -1, -1) if whole[:n] == around[:n])
        ids = whole[before : len(whole) - (len(around) - before)]
        least = 1 if before else 2
        if len(ids) < least:
            raise DataError(
                f"{self.files.get('text', self.set_name)}: expected a text of at least {least} tokens, got {len(ids)}"
            )
        if self.context <= before:
            raise DataError(
                f"context: expected more than the {before} special tokens before a text, got {self.context}"
            )
        return ids, around[:before]

    def _windows(self, ids: list[int], prefix: list[int]) -> Iterator[tuple[np.ndarray, list[int]]]:
        """(ids of a window with its prefix, those of them that are scored)."""
        room = self.context - len(prefix)
        for begin in range(0, len(ids), room):
            piece = ids[begin : begin + room]
            scored = piece if prefix else piece[1:]
            if scored:
                yield np.array([*prefix, *piece], np.int32), scored


def _logits(model: Any, window: np.ndarray) -> np.ndarray:
    return np.asarray(model.forward(window, np.array([0, len(window)]), "logits"), np.float32)


def _sums(targets: np.ndarray, own: np.ndarray, dense: np.ndarray | None = None) -> np.ndarray:
    """float64 [4]: nll, dense nll, KL(dense || own), same most likely token; of logits [rows, vocabulary]."""
    places = np.arange(len(targets))
    q = _log_softmax(own)
    nll = -q[places, targets].sum(dtype=np.float64)
    if dense is None:
        return np.array([nll, 0.0, 0.0, 0.0])
    p = _log_softmax(dense)
    kl = (np.exp(p) * (p - q)).sum(axis=1).sum(dtype=np.float64)
    same = np.count_nonzero(p.argmax(axis=1) == q.argmax(axis=1))
    return np.array([nll, -p[places, targets].sum(dtype=np.float64), kl, same])


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """float32 [rows, vocabulary]. NumPy sums in pairs, so a row of 150,000 loses a few 2^-24 of its sum."""
    rows: np.ndarray = logits - logits.max(axis=1, keepdims=True)
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return rows


def text(model: Any, file: str | os.PathLike[str], against: Any = None, context: int = CONTEXT) -> Score:
    """Perplexity of a causal language model on a UTF-8 text file.

    The memory beside the models is a window's logits: 4 * context * vocabulary bytes a model.

    Args:
        model: a language model, or anything with `forward(ids [T], offsets [2], "logits") -> float [T, vocabulary]`
            and `tokenizer.encode(texts) -> ids`.
        file: the text.
        against: a dense model to compare with: its perplexity, the ratio of both (above 1: worse), the mean
            KL(dense || model) in nats a token, and how often both find the same token most likely.
        context: tokens of a window.

    Returns:
        A Score with figures "perplexity" and "nll" (nats a token), intervals by a bootstrap over windows; its values are
        the windows' mean nll.

    Raises:
        DataError: the file is empty or too short, or the models' tokenizers differ.
        UnsupportedModelError: the model is no causal language model.
    """
    return Text(file, context).evaluate(model, against)

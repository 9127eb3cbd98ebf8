"""Texts through a model: tokenized, cut to the length limit, run end to end in ragged batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np

from aerogel._core import Session
from aerogel._util.progress import Progress
from aerogel.engine.token_ids import ragged
from aerogel.engine.work import check_lengths
from aerogel.errors import DataError

if TYPE_CHECKING:
    from aerogel.checkpoint.tokenizer import Tokenizer

log = logging.getLogger("aerogel")

#: Tokens of one call into the engine: enough to fill the kernels, few enough that activations stay in the caches.
BATCH_TOKENS = 2048


class TextRunner:
    """Runs texts through one output of a model.

    Args:
        tokenizer: the model's.
        max_tokens: texts are cut there.
        session: gives a session of the model, for the time of a `with` block.
        warn_once: whether the log was told already that texts are cut; called once, when one is.
        empty_is_zero: `fill` makes zeros of texts without tokens; else some token stands for them.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_tokens: int,
        session: Callable[[], AbstractContextManager[Session]],
        warn_once: Callable[[], bool],
        empty_is_zero: bool = False,
    ) -> None:
        self._tokenizer, self._max_tokens, self._session, self._warn_once = tokenizer, max_tokens, session, warn_once
        self._empty_is_zero = empty_is_zero

    def tokenize(self, texts: Sequence[str], truncate: bool = True) -> list[list[int]]:
        """The ids of each text, special tokens included; at least one each, unless such are zeros, at most `max_tokens`.

        Raises:
            DataError: a text has no tokens and the model has none to stand for an empty text; or it has too many, and
                `truncate` is False.
        """
        ids = self._tokenizer.encode(texts)
        if not truncate:
            check_lengths(ids, self._max_tokens)
        long = [i for i, sequence in enumerate(ids) if len(sequence) > self._max_tokens]
        if long:
            if self._warn_once():
                log.warning(
                    "texts longer than %d tokens are cut there (%d of these %d)",
                    self._max_tokens,
                    len(long),
                    len(texts),
                )
            cut = self._tokenizer.encode([texts[i] for i in long], self._max_tokens)
            for i, sequence in zip(long, cut, strict=True):
                ids[i] = sequence
        for i, sequence in enumerate(ids):
            if not sequence and not self._empty_is_zero:  # an empty text, and a tokenizer without special tokens
                begin = [self._tokenizer.bos_id, *self._tokenizer.eos_ids]
                ids[i] = [token for token in begin if token is not None][:1]
                if not ids[i]:
                    raise DataError(f"text {i} has no tokens, and the model none to stand for an empty text")
        return ids

    def run(
        self,
        ids: Sequence[Sequence[int]],
        types: Sequence[Sequence[int]] | None,
        output: str,
        batch_tokens: int,
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """Runs some sequences at a time: yields the first and the end of those, what came out, and their offsets.

        Args:
            ids: of each sequence.
            types: token types of each sequence.
            output: of the model.
            batch_tokens: the most tokens at once, but for a sequence that has more by itself.
            batch_size: the most sequences at once.
            progress: called as progress(done, total, "texts").
        """
        with self._session() as session:
            begin = 0
            while begin < len(ids):
                end, tokens = begin + 1, len(ids[begin])
                last = len(ids) if batch_size is None else min(len(ids), begin + batch_size)
                while end < last and tokens + len(ids[end]) <= batch_tokens:
                    tokens += len(ids[end])
                    end += 1
                flat, ends = ragged(ids[begin:end], None)
                kinds = None if types is None else ragged(types[begin:end], None)[0]
                yield begin, end, session.run(flat, ends, output, type_ids=kinds), ends
                begin = end
                if progress is not None:
                    progress(end, len(ids), "texts")

    def fill(
        self,
        result: np.ndarray,
        ids: Sequence[Sequence[int]],
        types: Sequence[Sequence[int]] | None,
        output: str,
        batch_tokens: int,
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Fills result [n, width], one row a sequence; the arguments are those of `run`."""
        if self._empty_is_zero and not all(ids):
            some = [i for i, sequence in enumerate(ids) if sequence]
            result[:] = 0
            rows = np.empty((len(some), result.shape[1]), np.float32)
            self.fill(rows, [ids[i] for i in some], None, output, batch_tokens, batch_size, progress)
            result[some] = rows
            return
        for begin, end, rows, _ in self.run(ids, types, output, batch_tokens, batch_size, progress):
            result[begin:end] = rows

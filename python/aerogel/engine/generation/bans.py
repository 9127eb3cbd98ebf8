"""Tokens that a model's authors do not want to come next (see `checkpoint.generation`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aerogel.checkpoint.generation import GenerationSettings


class Bans:
    """The settings over one text: n-grams, bad words, no early end, suppressed tokens. It is told every token.

    Args:
        settings: the model's.
        prompt: its token ids.
        ends: tokens that end a text.
    """

    def __init__(self, settings: GenerationSettings, prompt: Sequence[int], ends: frozenset[int]) -> None:
        self._settings = settings
        self._text = list(prompt)
        self._prompt = len(self._text)
        self._ends = sorted(ends)
        self._words = [word for word in settings.bad_words if not (len(word) == 1 and word[0] in ends)]
        # first n - 1 tokens of every n-gram of the text -> those that came behind them
        self._grams: dict[tuple[int, ...], list[int]] = {}
        for end in range(1, self._prompt + 1):
            self._remember(end)

    def add(self, token: int) -> None:
        """The text goes on with this token."""
        self._text.append(token)
        self._remember(len(self._text))

    def banned(self) -> list[int]:
        """Tokens that must not come next; some twice, some beyond the vocabulary."""
        return list(self._banned())

    def _remember(self, end: int) -> None:
        size = self._settings.no_repeat_ngram_size
        if size and end >= size:
            *first, last = self._text[end - size : end]
            self._grams.setdefault(tuple(first), []).append(last)

    def _banned(self) -> Iterator[int]:
        settings, text = self._settings, self._text
        size = settings.no_repeat_ngram_size
        if size and len(text) >= size - 1:
            yield from self._grams.get(tuple(text[len(text) - size + 1 :]), ())
        for word in self._words:
            if tuple(text[len(text) - len(word) + 1 :]) == word[:-1] and len(text) >= len(word) - 1:
                yield word[-1]
        if len(text) < settings.min_length or len(text) - self._prompt < settings.min_new_tokens:
            yield from self._ends
        yield from settings.suppressed
        if len(text) == self._prompt:
            yield from settings.first_suppressed

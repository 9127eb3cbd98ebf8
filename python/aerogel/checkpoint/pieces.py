"""A text in tokens that know where they stand in it: what token classification and question answering are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True)
class Pieces:
    """The tokens of one text or pair, or of a window of it; all lists have an entry a token.

    Attributes:
        ids: token ids, with the model's special tokens.
        types: of a pair, which text a token is of, as the model is told.
        tokens: as the vocabulary spells them.
        offsets: the characters of its text that a token stands for.
        sources: the text that a token is of, 0 or 1; None: it is a special token.
        words: the characters of the word that a token is a part of, as far as this window has it; its own where the
            tokenizer knows no words.
    """

    ids: list[int]
    types: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    sources: list[int | None]
    words: list[tuple[int, int]]


def pieces_of(encoding: tokenizers.Encoding) -> Pieces:
    """What the tokenizers package says of a text."""
    offsets, sources = encoding.offsets, encoding.sequence_ids
    spans: dict[tuple[int | None, int], tuple[int, int]] = {}
    places = list(zip(sources, encoding.word_ids, strict=True))
    for (source, word), (start, end) in zip(places, offsets, strict=True):
        if word is not None:
            spans[source, word] = (spans.get((source, word), (start, end))[0], end)
    words = [own if word is None else spans[source, word] for (source, word), own in zip(places, offsets, strict=True)]
    return Pieces(encoding.ids, encoding.type_ids, encoding.tokens, offsets, sources, words)


def windows(whole: Pieces, source: int, room: int | None, stride: int | None, left: bool) -> list[Pieces]:
    """The pieces with at most `room` tokens of one text, in as many windows as it needs, as the tokenizers package cuts.

    Args:
        whole: all of it.
        source: the text that is cut; everything else stands in every window.
        room: None: everything is one window.
        stride: so many of its tokens two windows share. None: one window only.
        left: a window that is cut begins late instead of ending early; the last one is then the first.
    """
    inside = [i for i, of in enumerate(whole.sources) if of == source]
    if room is None or len(inside) <= room:
        return [whole]
    first, count = inside[0], len(inside)
    found = []
    for begin in range(0, count, room - (stride or 0)):
        end = min(begin + room, count)
        span = (count - end, count - begin) if left else (begin, end)
        found.append(_window(whole, first, count, *span))
        if stride is None or end == count:
            break
    return found


def _window(whole: Pieces, first: int, count: int, begin: int, end: int) -> Pieces:
    """Tokens `begin` to `end` of the `count` that begin at `first`, and what stands around all of them."""
    kept = [*range(first), *range(first + begin, first + end), *range(first + count, len(whole.ids))]
    low, high = whole.offsets[first + begin][0], whole.offsets[first + end - 1][1]
    words = {i: whole.words[i] for i in kept}
    for i in range(first + begin, first + end):
        words[i] = (max(low, words[i][0]), min(high, words[i][1]))
    return Pieces(
        [whole.ids[i] for i in kept],
        [whole.types[i] for i in kept],
        [whole.tokens[i] for i in kept],
        [whole.offsets[i] for i in kept],
        [whole.sources[i] for i in kept],
        [words[i] for i in kept],
    )

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
    return Pieces(
        encoding.ids,
        encoding.type_ids,
        encoding.tokens,
        encoding.offsets,
        encoding.sequence_ids,
        [_word(encoding, i) for i in range(len(encoding.ids))],
    )


def _word(encoding: tokenizers.Encoding, index: int) -> tuple[int, int]:
    source, word = encoding.token_to_sequence(index), encoding.token_to_word(index)
    found = None if source is None or word is None else encoding.word_to_chars(word, source)
    offsets: tuple[int, int] = encoding.offsets[index] if found is None else found
    return offsets

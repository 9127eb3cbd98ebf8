"""Windows over a text are those that the tokenizers package cuts."""

from __future__ import annotations

import pytest

from aerogel.checkpoint.pieces import pieces_of
from aerogel.checkpoint.tokenizer import Tokenizer, wordpiece
from aerogel.errors import TokenizerError

from .. import tiny_models

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENS = [*"[PAD] [UNK] [CLS] [SEP]".split(), *tiny_models.WORDS, *LETTERS[1:], *["##" + c for c in LETTERS]]
LONG = "the catx sat on a redmat and ran, " * 3


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize(("room", "stride"), [(12, 3), (12, 0), (9, 2), (200, 5), (12, None)])
@pytest.mark.parametrize("pair", [False, True])
def test_windows(left: bool, room: int, stride: int | None, pair: bool) -> None:
    ours = Tokenizer(wordpiece(TOKENS, True, "here"), where="here", cuts_left=left)
    theirs = wordpiece(TOKENS, True, "here")
    strategy = "only_second" if pair else "longest_first"
    theirs.enable_truncation(room, stride=stride or 0, strategy=strategy, direction="left" if left else "right")
    texts = ["a dog", LONG] if pair else [LONG]
    first = theirs.encode(*texts)
    expected = [pieces_of(first)] if stride is None else [pieces_of(one) for one in (first, *first.overflowing)]
    assert ours.pieces(*texts, max_tokens=room, stride=stride) == expected
    if stride is not None:
        assert (len(expected) > 1) == (room < 200)


def test_what_leaves_no_room() -> None:
    tokenizer = Tokenizer(wordpiece(TOKENS, True, "here"), where="here")
    with pytest.raises(TokenizerError, match="max_tokens: expected more than 8: the first text takes 5 of them"):
        tokenizer.pieces("a a a a a", "b", max_tokens=8)
    with pytest.raises(TokenizerError, match="stride: expected less than 3, all of a window, got 3"):
        tokenizer.pieces(LONG, max_tokens=5, stride=3)

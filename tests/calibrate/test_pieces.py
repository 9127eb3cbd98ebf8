"""Long texts in pieces."""

import re

from aerogel.calibrate.pieces import pieces, short

SENTENCES = [f"Sentence {i} is about a thing, and says so at some length." for i in range(200)]


def test_a_running_text_becomes_many_whole_sentences():
    running = " ".join(SENTENCES)
    found = list(short([running], 96))
    assert " ".join(found) == running and len(found) > 30
    assert all(re.fullmatch(r"Sentence .*length\.", piece) for piece in found)
    assert max(len(piece.split()) for piece in found) <= 96 and min(map(len, found)) < 70 < 300 < max(map(len, found))
    assert " ".join(pieces(running)) == running


def test_short_texts_stay_as_they_are():
    texts = ["one  line\nand another", "", "b " * 96]
    assert list(short(texts, 96)) == texts


def test_words_without_a_sentence_are_cut_where_there_are_enough():
    assert list(short(["word " * 250], 100)) == [" ".join(["word"] * n) for n in (100, 100, 50)]

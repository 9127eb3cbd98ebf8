"""Texts from wherever they come, and tokens that do not fit into memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

from aerogel.errors import DataError  # noqa: E402
from aerogel.train import corpus, texts  # noqa: E402
from aerogel.train.corpus import Corpus, Tokens  # noqa: E402


def test_lists_rows_and_streams_give_the_same() -> None:
    words = ["one", " ", "two", "three"]
    rows = [{"text": word, "n": 1} for word in words]
    for given in (words, tuple(words), iter(words), np.array(words), rows, iter(rows)):
        found = Corpus(given)
        assert list(found.chunks()) == [["one", "two", "three"]] and list(found.sample) == words
    assert list(Corpus([{"a": "x"}], "a")) == ["x"]


@pytest.mark.parametrize("wrong, message", [
    ("text", "expected a list of strings"), (3, "expected a list of strings"), ({"text": "x"}, "expected a list"),
    (["a", 1], "expected strings, got int at 1"), (iter(["a", None]), "expected strings, got NoneType at 1"),
    ([{"body": "x"}], r"expected the column 'text', got \['body'\]"), (np.array(3), "expected a list of strings"),
])  # fmt: skip
def test_what_is_no_text_is_named(wrong: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(Corpus(wrong))  # type: ignore[arg-type]


def test_a_sample_of_a_stream_is_drawn_alike_from_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "SAMPLE", 20)
    counts: Counter[str] = Counter()
    for seed in range(200):
        found = Corpus((str(i) for i in range(40)), seed=seed)
        assert len(list(found)) == 40 and len(set(found.sample)) == 20
        counts.update(found.sample)
    assert len(counts) == 40 and all(60 < count < 140 for count in counts.values())  # 100 and 4 sigma or more


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_tokens_beyond_what_memory_takes_are_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(corpus, "IN_MEMORY", most)
    tokens = Tokens(tmp_path / "not" / "yet")
    tokens.add([[1, 2, 3], [4]])
    tokens.add([])
    tokens.add([[5, 6, 7, 8, 9]])
    ids, lengths = tokens.arrays()
    assert ids.tolist() == list(range(1, 10)) and lengths.tolist() == [3, 1, 5] and ids.dtype == np.int32
    assert isinstance(ids, np.memmap) == (most < 9) and not list(tmp_path.iterdir())


def test_large_files_are_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "texts.txt"
    sentence = "So long a line is a document. "
    file.write_bytes(b"\xef\xbb\xbfone\r\n\ntwo\none\n" + sentence.encode() * 20)
    assert list(texts.open_texts([file])) == ["one", "two", sentence.strip()]
    monkeypatch.setattr(texts, "WHOLE", 10)
    streamed = texts.open_texts([file])
    assert list(streamed) == ["one", "two", "one"] + 20 * [sentence.strip()]
    with pytest.raises(DataError, match="not mixed"):
        texts.open_texts([file], mix=0.5)
    file.write_bytes(b"good\n\xff\xff bad bad bad\n")
    with pytest.raises(DataError, match="expected UTF-8"):
        list(texts.open_texts([file]))

"""Files of calibration texts as people have them."""

from __future__ import annotations

import pytest

from aerogel.calibrate import read_texts
from aerogel.errors import DataError


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.txt", b"\xef\xbb\xbfhello\r\nworld\n\n", ["hello", "world"]),
        ("a.txt", "a\u2028b\n".encode(), ["a\u2028b"]),
        ("a.jsonl", b'\xef\xbb\xbf{"text": "hello"}\r\n\n["x", 3]\n', ["hello", "x"]),
        ("a.jsonl", '{"text": "a\u2028b"}\n'.encode(), ["a\u2028b"]),
        ("a.csv", b'\xef\xbb\xbf"hello, you",1\r\nb,2\n', ["hello, you", "b"]),
        ("a.TSV", b'say "hi\t1\n"x\t2\n', ['say "hi', '"x']),
    ],
)
def test_read(tmp_path, name, data, expected):
    (tmp_path / name).write_bytes(data)
    assert read_texts(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b'"never closed,x\ny\nz\n', "unexpected end of data"),  # else one text of all that follows
        ("a.jsonl", b'{"text": "\\ud800"}\n', "surrogates"),
        ("a.jsonl", b"[" * 100_000, "recursion"),
        ("a.txt", b"\xff", "UTF-8"),
        ("a.txt", b" \n", "found none"),
    ],
)
def test_refused(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_texts(tmp_path / name)


def test_no_files(tmp_path):
    for path in (tmp_path, tmp_path / "nothing.txt", "a\0b", None, 3):
        with pytest.raises(DataError, match="expected a path|cannot be read"):
            read_texts(path)

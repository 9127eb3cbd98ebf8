import pytest

from aerogel.calibrate import read_texts, sequences
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import DataError


def test_kinds_of_files(tmp_path):
    files = {
        "a.txt": "one\n\n  two \r\nthree",
        "a.csv": 'one,two,4.5\n"a, b","say ""hi""",0\n',
        "a.tsv": 'one "word\t1\ntwo\t0\n',
        "a.jsonl": '{"text": "one", "label": 1}\n\n["two", "three", 4]\n"four"\n',
    }
    expected = {
        "a.txt": ["one", "two", "three"],
        "a.csv": ["one", "two", "a, b", 'say "hi"'],
        "a.tsv": ['one "word', "two"],
        "a.jsonl": ["one", "two", "three", "four"],
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_texts(tmp_path / name) == expected[name], name


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.txt", b"\xef\xbb\xbfhello\r\nworld\n\n", ["hello", "world"]),
        ("a.txt", "a\u2028b\n".encode(), ["a\u2028b"]),
        ("a.txt", b"hello\rworld\r", ["hello", "world"]),
        ("a.jsonl", b'{"text": "hello"}\r["x"]\r', ["hello", "x"]),
        ("a.csv", b"hello,1\rb,2\r", ["hello", "b"]),
        ("a.jsonl", b'\xef\xbb\xbf{"text": "hello"}\r\n\n["x", 3]\n', ["hello", "x"]),
        ("a.jsonl", '{"text": "a\u2028b"}\n'.encode(), ["a\u2028b"]),
        ("a.csv", b'\xef\xbb\xbf"hello, you",1\r\nb,2\n', ["hello, you", "b"]),
        ("a.TSV", b'say "hi\t1\n"x\t2\n', ['say "hi', '"x']),
    ],
)
def test_files_as_people_have_them(tmp_path, name, data, expected):
    (tmp_path / name).write_bytes(data)
    assert read_texts(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b'"never closed,x\ny\nz\n', "unexpected end of data"),  # else one text of all that follows
        ("a.jsonl", b'{"text": "\\ud800"}\n', "surrogates"),
        ("a.jsonl", b"[" * 100_000, "recursion"),
        ("a.txt", b"\n \n", "found none"),
        ("a.csv", b"1,2\n3,4\n", "found none"),
        ("a.txt", b"abc\xff\n", "UTF-8 text, got byte 0xff at 3"),
        ("a.jsonl", b'{"text": \n', "a.jsonl"),
    ],
)
def test_bad_files(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_texts(tmp_path / name)


def test_no_files(tmp_path):
    for path in (tmp_path, tmp_path / "nothing.txt", "a\0b", None, 3):
        with pytest.raises(DataError, match="expected a path|cannot be read"):
            read_texts(path)


def test_sequences_of_sentences(bert_folder):
    tokenizer = open_checkpoint(bert_folder).tokenizer()
    texts = [f"the cat sat on the mat {'again ' * (i % 9)}" for i in range(40)]
    ids = sequences(texts, tokenizer, 12, 1000, running=False, samples=10, seed=1)
    assert len(ids) == 10 and max(map(len, ids)) <= 12
    assert ids == sequences(texts, tokenizer, 12, 1000, running=False, samples=10, seed=1)
    assert ids != sequences(texts, tokenizer, 12, 1000, running=False, samples=10, seed=2)
    assert len(sequences(texts, tokenizer, 12, 1000, running=False)) == 40
    some = sequences(texts, tokenizer, 12, 100, running=False)
    assert 88 < sum(map(len, some)) <= 100
    assert len(sequences(texts, tokenizer, 12, 1, running=False)) == 1


def test_windows_of_a_running_text(bert_folder):
    tokenizer = open_checkpoint(bert_folder).tokenizer()
    texts = ["the cat sat on the mat"] * 20
    whole = sequences(texts, tokenizer, 7, 1000, running=True)
    assert {len(window) for window in whole} == {7}
    assert sum(whole, []) == tokenizer.encode(["\n".join(texts)])[0][: 7 * len(whole)]
    assert [len(w) for w in sequences(["the cat"], tokenizer, 50, 100, running=True)] == [4]  # with the special tokens

import pytest

from aerogel.errors import DataError
from aerogel.evaluate.files import read_jsonl, read_rows, read_text


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    "name,data,expected",
    [
        ("a.csv", 'one,"two, and ""more""",3\n', [["one", 'two, and "more"', "3"]]),
        ("a.csv", "sentence1,sentence2,score\r\na,b,1\r\n", [["a", "b", "1"]]),
        ("a.csv", "\ufeffa,b,1\n\n\nc,d,2", [["a", "b", "1"], ["c", "d", "2"]]),
        ("a.csv", 'a,"two\nlines",1\n', [["a", "two\nlines", "1"]]),
        ("a.csv", "a\tb,c,d\n", [["a\tb", "c", "d"]]),
        ("a.tsv", 'say "a, b\tc\t1\n', [['say "a, b', "c", "1"]]),
        ("a.txt", "a, b\tc\tScore\na\tb\t1\n", [["a", "b", "1"]]),
        ("a.txt", "a,b,1\n", [["a", "b", "1"]]),
    ],
)
def test_rows(tmp_path, name, data, expected):
    assert [fields for _, fields in read_rows(write(tmp_path / name, data), [3], "rows")] == expected


@pytest.mark.parametrize(
    "name,data,message",
    [
        ("a.csv", "a,b,1\na,b\n", r"a\.csv:2: expected rows \(3 fields with commas between\), got 2"),
        ("a.tsv", "a\tb\t1\n\na,b,c\n", r"a\.tsv:3: expected rows \(3 fields with tabs between\), got 1"),
        ("a.csv", 'a,"two\nlines",1\na,b\n', r"a\.csv:3: .* got 2"),
        ("a.csv", 'a,"b,1\n', r"a\.csv:1: expected rows: unexpected end of data"),
        ("a.csv", 'a,"b"c,1\n', r"a\.csv:1: expected rows: "),
        ("a.csv", b"a,b,1\na,\xff,2\n", r"a\.csv:2: expected UTF-8"),
        ("a.csv", b"", r"a\.csv: is empty"),
        ("a.csv", b" \n\n", r"a\.csv: is empty"),
        ("a.csv", "a,b,1\nscore,score,score,score\n", "got 4"),
    ],
)
def test_rows_that_are_wrong(tmp_path, name, data, message):
    with pytest.raises(DataError, match=message):
        list(read_rows(write(tmp_path / name, data), [3], "rows"))


def test_a_later_row_has_as_many_fields_as_the_first(tmp_path):
    with pytest.raises(DataError, match=r"\(2 fields"):
        list(read_rows(write(tmp_path / "a.tsv", "a\t0\na\tb\t1\n"), [2, 3], "rows"))


def test_a_word_in_the_first_row_is_not_skipped(tmp_path):
    file = write(tmp_path / "a.csv", "a,b,five\na,b,1\n")
    assert [fields[-1] for _, fields in read_rows(file, [3], "rows")] == ["five", "1"]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_text(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be read"):
        read_text(tmp_path)


@pytest.mark.parametrize("line", ["[1]", '"a"', "{", '{"a": 1,}', "[" * 100_000])
def test_lines_that_are_no_objects(tmp_path, line):
    file = write(tmp_path / "a.jsonl", '{"a": 1}\n\n' + line)
    with pytest.raises(DataError, match=r"a\.jsonl:3: expected a JSON object"):
        list(read_jsonl(file))

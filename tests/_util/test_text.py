import pytest

from aerogel._util.text import decoded, middle, not_utf8


def test_names_are_cut_in_the_middle():
    assert middle("short", 10) == "short"
    names = [f"encoder.layer.11.attention.self.{part}" for part in ("query", "key", "value")]
    cut = [middle(name, 20) for name in names]
    assert all(len(name) == 20 for name in cut) and len(set(cut)) == 3
    assert cut[0].startswith("encoder") and cut[0].endswith("query")


@pytest.mark.parametrize(
    "data", [b"a\nb\n", b"\xef\xbb\xbfa\nb\n", b"\xef\xbb\xbfa\r\nb\r\n", b"a\r\nb\r\n", b"a\rb\r"]
)
def test_marks_and_line_ends_of_windows_are_no_text(data):
    assert decoded(data) == "a\nb\n"


def test_bytes_that_are_no_text_are_named():
    with pytest.raises(UnicodeDecodeError) as caught:
        b"abc\xff".decode()
    assert not_utf8("x.txt", caught.value) == "x.txt: expected UTF-8 text, got byte 0xff at 3"
    assert not_utf8("x.txt", caught.value, 7) == "x.txt:7: expected UTF-8 text, got byte 0xff at 3"

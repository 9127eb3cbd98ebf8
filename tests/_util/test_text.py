import pytest

from aerogel._util.text import decoded, middle


def test_names_are_cut_in_the_middle():
    assert middle("short", 10) == "short"
    names = [f"encoder.layer.11.attention.self.{part}" for part in ("query", "key", "value")]
    cut = [middle(name, 20) for name in names]
    assert all(len(name) == 20 for name in cut) and len(set(cut)) == 3
    assert cut[0].startswith("encoder") and cut[0].endswith("query")


@pytest.mark.parametrize("data", [b"a\nb\n", b"\xef\xbb\xbfa\nb\n", b"\xef\xbb\xbfa\r\nb\r\n", b"a\r\nb\r\n"])
def test_marks_and_line_ends_of_windows_are_no_text(data):
    assert decoded(data) == "a\nb\n"

"""What an output file may replace."""

from __future__ import annotations

from pathlib import Path

import pytest

from aerogel._util.files import check_file
from aerogel.errors import AerogelError


def test_what_is_replaced_only_if_asked(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    check_file(file)
    file.write_text("1")
    with pytest.raises(AerogelError, match="--overwrite"):
        check_file(file)
    check_file(file, overwrite=True)


def test_what_is_never_replaced(tmp_path: Path) -> None:
    data = tmp_path / "dev.csv"
    data.write_text("a,b,1\n")
    with pytest.raises(AerogelError, match="is what is read"):
        check_file(data, True, [tmp_path / "none", tmp_path / "." / "dev.csv"])
    for name in ("config.json", "tokenizer.json", "notes.txt"):
        (tmp_path / name).write_text("{}")
        with pytest.raises(AerogelError, match="in a model's folder"):
            check_file(tmp_path / name, overwrite=True)
    with pytest.raises(AerogelError, match="UTF-8"):
        check_file(tmp_path / "d\udcf6n.json")

"""Replacement of folders and files: whole or not at all, whenever the writer is killed."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from aerogel._util import files, folders, partial
from aerogel._util.folders import replacing
from aerogel._util.partial import restore
from aerogel.errors import AerogelError, RecipeError

OLD, NEW = {"a": b"old", "b": b"older"}, {"a": b"new", "c": b"newer"}
#: Every step with AEROGEL_TEST_MODELS=1, else one in so many.
EVERY_STEP = bool(os.environ.get("AEROGEL_TEST_MODELS"))
STRIDE = 1 if EVERY_STEP else 29
#: The files whose every line is a place to be killed at.
TRACED = (folders.__file__, partial.__file__, files.__file__)


def fill(folder: Path, content: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def replace(target: Path, new: dict[str, bytes]) -> None:
    with replacing(target, lambda _: None) as folder:
        fill(folder, new)


def killed_at(step: int, write) -> bool:
    """Runs `write` in a process that ends, without any clean-up, before the step-th line; whether it came that far."""
    child = os.fork()
    if child == 0:
        left = step

        def trace(frame, event, _):
            nonlocal left
            if frame.f_code.co_filename not in TRACED:
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    os._exit(9)
            return trace

        sys.settrace(trace)
        try:
            write()
        finally:
            sys.settrace(None)
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("exchange", [True, False])
def test_a_writer_killed_at_any_step_leaves_a_whole_folder(tmp_path, monkeypatch, exchange):
    if not exchange:  # as on a system that cannot
        monkeypatch.setattr(folders, "exchange_names", lambda *_: False)
    target = tmp_path / "m"
    fill(target, OLD)
    step, seen = 0, set()
    while killed_at(step, lambda: replace(target, NEW)):
        absent = not target.exists()
        assert not (absent and exchange)
        restore(target)  # what opening a model does
        assert content(target) in (OLD, NEW), step
        seen.add((absent, content(target) == NEW))
        replace(target, OLD)
        assert os.listdir(tmp_path) == ["m"], step
        step += STRIDE
    assert content(target) == NEW and step > 50
    if EVERY_STEP:
        assert seen == {(False, False), (False, True), *(() if exchange else ((True, False),))}


def test_a_writer_of_a_file_killed_at_any_step_leaves_a_whole_file(tmp_path):
    target = tmp_path / "f.json"
    target.write_text("old")
    step, seen = 0, set()
    while killed_at(step, lambda: files.write_text(target, "new")):
        seen.add(target.read_text())
        files.write_text(target, "old")
        assert os.listdir(tmp_path) == ["f.json"], step
        step += STRIDE
    assert step > 20 and (seen == {"old", "new"} or not EVERY_STEP)


def test_what_a_living_writer_has_is_left_alone(tmp_path):
    target = tmp_path / "m"
    with replacing(target, lambda _: None) as slow:
        fill(slow, OLD)
        replace(target, NEW)
        assert slow.exists() and content(target) == NEW
    assert content(target) == OLD and os.listdir(tmp_path) == ["m"]


def test_only_names_of_writers_are_swept(tmp_path):
    for name in (
        ".m.1234abcd.partial",
        ".m.1234abcd.old",
        ".n.1234abcd.partial",
        ".m.short.partial",
        "m.1234abcd.partial",
    ):
        fill(tmp_path / name, OLD)
    replace(tmp_path / "m", NEW)
    assert sorted(os.listdir(tmp_path)) == [".m.short.partial", ".n.1234abcd.partial", "m", "m.1234abcd.partial"]


def test_an_old_folder_comes_back_only_to_an_empty_place(tmp_path):
    fill(tmp_path / ".m.1234abcd.old", OLD)
    fill(tmp_path / "m", NEW)
    restore(tmp_path / "m")
    assert content(tmp_path / "m") == NEW


def test_an_error_leaves_everything_as_it_was(tmp_path):
    fill(tmp_path / "m", OLD)
    with pytest.raises(KeyError), replacing(tmp_path / "m", lambda _: None) as folder:
        fill(folder, NEW)
        raise KeyError
    assert content(tmp_path / "m") == OLD and os.listdir(tmp_path) == ["m"]


def test_writers_at_once_leave_one_of_theirs(tmp_path):
    target = tmp_path / "m"
    contents = [{"a": bytes([i])} for i in range(4)]

    def write(mine):
        for _ in range(5):
            replace(target, mine)

    threads = [threading.Thread(target=write, args=(mine,)) for mine in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(target) in contents and os.listdir(tmp_path) == ["m"]


def test_a_file_keeps_its_mode_and_its_link(tmp_path):
    real = tmp_path / "real"
    real.write_text("old")
    real.chmod(0o640)
    (tmp_path / "link").symlink_to(real)
    files.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640


def test_a_device_is_written_to(tmp_path):
    files.check_file(Path(os.devnull))
    files.write_text(Path(os.devnull), "text")
    assert Path(os.devnull).is_char_device()


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    for path, message in (
        (tmp_path / "file", "exists: write another file, or replace it with --overwrite"),
        (tmp_path / "none" / "file", "there is no folder"),
        (tmp_path, "is a folder"),
        (tmp_path / ("x" * 300), "cannot be written"),
        (Path("a\0b"), "cannot be written"),
    ):
        with pytest.raises(AerogelError, match=message):
            files.check_file(path)
    files.check_file(tmp_path / "file", overwrite=True)
    with pytest.raises(RecipeError, match="cannot be written"), replacing(tmp_path / ("x" * 300), lambda _: None):
        pass
    with pytest.raises(AerogelError, match="cannot be written"):
        files.write_text(tmp_path / "none" / "file", "x")

"""Checks of arguments that many functions share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

import aerogel
from aerogel import bench
from aerogel._core import default_threads, usable_cores
from aerogel._util.checks import array, number, path, text, texts, thread_count, whole_number
from aerogel._util.fields import check_fields
from aerogel._util.reading import read_bytes
from aerogel.errors import AerogelError, DataError, RecipeError, ShapeError

WRONG = [
    (1.5, "threads: expected a whole number, got 1.5"),
    (2.0, "threads: expected a whole number, got 2.0"),
    (True, "threads: expected a whole number, got True"),
    (np.True_, "threads: expected a whole number"),
    ("2", "threads: expected a whole number, got '2'"),
    ([2], "threads: expected a whole number"),
    (0, "threads: expected at least 1, got 0"),
    (-3, "threads: expected at least 1, got -3"),
    (10**30, "threads: expected 1 to 1024, got 10"),
]


@pytest.mark.parametrize("threads, said", WRONG, ids=[repr(threads) for threads, _ in WRONG])
def test_numbers_of_threads_that_are_none(threads, said):
    with pytest.raises(AerogelError, match=said):
        thread_count(threads)


def test_numbers_of_threads():
    assert thread_count(None) == default_threads() >= 1
    for threads in (3, np.int32(3), np.uint64(3), np.array(3)):
        count = thread_count(threads)
        assert count == 3 and type(count) is int
    with pytest.raises(RecipeError):
        thread_count(0, RecipeError)


def test_the_environment_decides_where_no_number_is_given(monkeypatch, caplog):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("AEROGEL_THREADS", raising=False)
    assert thread_count(None) == 1
    monkeypatch.setenv("AEROGEL_THREADS", "7")
    assert thread_count(None) == 7 and thread_count(3) == 3
    monkeypatch.setenv("AEROGEL_THREADS", "all")
    with pytest.raises(AerogelError, match="AEROGEL_THREADS: expected a number from 1 to 1024, got 'all'"):
        thread_count(None)
    assert thread_count(3) == 3
    monkeypatch.delenv("AEROGEL_THREADS")
    monkeypatch.setenv("OMP_NUM_THREADS", "rather many")
    for _ in range(2):
        assert thread_count(None) == usable_cores()
    assert caplog.text.count("OMP_NUM_THREADS: expected a number from 1 to 1024, got 'rather many'") == 1


@pytest.mark.parametrize("threads", [1.5, True, "2", 0])
def test_every_function_with_threads_checks_them(threads, bert_folder, tmp_path):
    weight = np.eye(8, dtype=np.float32)
    calls = [
        lambda: aerogel.load(bert_folder, threads=threads),
        lambda: aerogel.Linear(weight, threads=threads),
        lambda: aerogel.csr_matmul(([0, 1], [0], [1.0]), weight, threads=threads),
        lambda: aerogel.csr_matmul(([0], [], []), weight, threads=threads),
        lambda: aerogel.compress(bert_folder, tmp_path / "out", threads=threads),
        lambda: aerogel.explain(bert_folder, threads=threads),
        lambda: aerogel.machine(threads, limits=False),
        lambda: bench.bench_linear(8, 8, threads=threads),
        lambda: bench.bench_model(bert_folder, threads=threads),
    ]
    for call in calls:
        with pytest.raises(AerogelError, match="threads: expected"):
            call()


def test_integers_of_numpy(bert_folder):
    two = np.int64(2)
    assert aerogel.load(bert_folder, threads=two).threads == 2
    layer = aerogel.Linear(np.eye(8, dtype=np.float32), threads=two)
    assert layer.threads == 2 and layer(np.ones((1, 8), np.float32)).shape == (1, 8)
    assert aerogel.csr_matmul(([0, 1], [0], [1.0]), np.ones(8, np.float32), threads=two).tolist() == [1.0]


class Odd:
    def __repr__(self):
        raise ValueError("no text of its own")


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("inf"), 10**400, 1j, np.zeros(2), Odd()])
def test_what_is_no_number(value):
    with pytest.raises(AerogelError, match="x: expected a number"):
        number("x", value)


def test_numbers_and_their_limits():
    assert number("x", np.float32(0.5), 0, 1) == 0.5 and type(number("x", 3)) is float
    assert number("x", 10**300) == 1e300
    for value, limits in ((-1, (0, 1)), (2, (0, 1))):
        with pytest.raises(DataError, match="x: expected a number from 0 to 1, got"):
            number("x", value, *limits, error=DataError)
    with pytest.raises(AerogelError, match="x: expected a positive number, got 0"):
        number("x", 0, 0, above=True)


def test_texts():
    assert texts("t", iter(["a", ""])) == ["a", ""]
    with pytest.raises(DataError, match="t: expected strings, got int at 0"):
        texts("t", range(10**12))  # found at the first
    for value in ("abc", None, 3, np.array(1)):
        with pytest.raises(DataError, match="t: expected a list"):
            texts("t", value)
    with pytest.raises(AerogelError, match="expected a string of Unicode characters"):
        text("t", "\ud800")


@pytest.mark.parametrize("value", [None, 3, b"x", "a\0b", "\ud800", "x" * 5000])
def test_what_is_no_path(value):
    with pytest.raises(AerogelError, match="p: expected a path"):
        path("p", value)


def test_paths(tmp_path):
    assert path("p", str(tmp_path)) == tmp_path
    assert path("p", tmp_path / "nothing" / "here") == tmp_path / "nothing" / "here"


def test_arrays():
    assert array("a", [[1, 2]], 2).shape == (1, 2)
    for value in ([[1], [1, 2]], ["x"], [None], np.array([1j]), np.array(["2020-01-01"], "datetime64[D]")):
        with pytest.raises(DataError, match="a: expected"):
            array("a", value)
    with pytest.raises(ShapeError, match=r"a: expected \[N, K\], got \[3\]"):
        array("a", np.zeros(3), 2)


def test_tensors_that_need_gradients():
    torch = pytest.importorskip("torch")
    for tensor in (torch.ones(2, requires_grad=True), torch.ones(2, device="meta"), torch.ones(2, 2).to_sparse()):
        with pytest.raises(DataError, match="a: expected an array of numbers"):
            array("a", tensor)
        with pytest.raises(AerogelError, match="n: expected a whole number"):
            whole_number("n", tensor, 0)


@dataclass(frozen=True)
class Fields:
    count: int = 1
    share: float | None = None
    names: tuple[str, ...] = ()
    layers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        check_fields(self, "f.", RecipeError)


def test_fields_are_checked_and_made_plain():
    made = Fields(np.int64(3), np.float64(0.5), ["a"], {"x": 1})
    assert made == Fields(3, 0.5, ("a",), {"x": 1}) and type(made.count) is int and type(made.share) is float
    wrong = (
        {"count": 1.5},
        {"count": 10**400},
        {"share": float("nan")},
        {"names": "ab"},
        {"names": [1]},
        {"layers": {"x": "y"}},
    )
    for values in wrong:
        with pytest.raises(RecipeError, match=rf"f\.{next(iter(values))}.*: expected"):
            Fields(**values)


def test_only_ordinary_files_are_read(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert read_bytes("file", tmp_path / "x") == b"abc"
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    for name, what in (("pipe", "a pipe"), ("", "a folder"), ("nothing", "No such file")):
        with pytest.raises(DataError, match=f"cannot be read: .*{what}"):
            read_bytes("file", tmp_path / name)

"""Checks of arguments that many functions share."""

from __future__ import annotations

import numpy as np
import pytest

import aerogel
from aerogel import bench
from aerogel._core import default_threads, usable_cores
from aerogel._util.checks import thread_count
from aerogel.errors import AerogelError, RecipeError

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

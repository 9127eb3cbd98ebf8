"""Pieces of work side by side."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from aerogel._util.workers import cut, each, side_by_side, workers


def blas_threads():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


def test_results_come_in_order_and_from_several_threads():
    barrier = threading.Barrier(3, timeout=10)
    names = set()

    def work(i):
        if i < 3:
            barrier.wait()  # only three at a time get past it
        names.add(threading.current_thread().name)
        return i * i

    with workers(3):
        assert list(side_by_side(work, range(20))) == [i * i for i in range(20)]
    assert len(names) == 3


@pytest.mark.parametrize("threads", [None, 1])
def test_without_workers_everything_happens_here(threads):
    def here(_):
        return threading.get_ident()

    if threads is None:
        found = set(side_by_side(here, range(3)))
    else:
        with workers(threads):
            found = set(side_by_side(here, range(3)))
    assert found == {threading.get_ident()}


def test_a_piece_that_is_cut_again_is_done_where_it_is():
    def outer(i):
        inner = set(side_by_side(lambda _: threading.get_ident(), range(4)))
        return inner == {threading.get_ident()}

    with workers(2), workers(7):
        assert all(side_by_side(outer, range(6)))


def test_blas_has_one_thread_while_somebody_works():
    before = blas_threads()
    with workers(2):
        assert set(blas_threads()) <= {1}
    assert blas_threads() == before
    with pytest.raises(ZeroDivisionError):
        with workers(2):
            each(lambda i: 1 // i, [1, 0, 2])
    assert blas_threads() == before


def test_the_first_one_in_gives_blas_its_threads_back():
    before = blas_threads()
    inside, leave = threading.Event(), threading.Event()

    def longer():
        with workers(2):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=longer)
    with workers(2):
        thread.start()
        assert inside.wait(10)
        assert set(blas_threads()) <= {1}
    assert blas_threads() == before
    leave.set()
    thread.join()
    assert blas_threads() == before


def test_cut():
    array = np.arange(10)
    assert [list(array[at]) for at in cut(10, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert list(cut(0, 4)) == []

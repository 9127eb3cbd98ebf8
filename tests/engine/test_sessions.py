"""Idle sessions: what a load needs is kept, the rest is given back."""

import threading

import numpy as np
import pytest

import aerogel
from aerogel import DataError, _core
from aerogel.engine import sessions
from aerogel.engine.sessions import Sessions


@pytest.fixture(scope="module")
def model(llama_folder):
    return aerogel.load(llama_folder, threads=1)


def at_once(pool, plan, count, work):
    """`count` callers that hold a session each at the same time."""
    ready = threading.Barrier(count)

    def call():
        with pool.take(plan) as session:
            ready.wait()
            work(session)
            ready.wait()

    callers = [threading.Thread(target=call) for _ in range(count)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


def forward(tokens):
    ids, ends = np.full(tokens, 7, np.int32), np.array([0, tokens], np.int64)
    return lambda session: session.run(ids, ends, "logits", last_only=True)


def test_a_session_needs_a_plan():
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        _core.Session(None)


def test_a_session_is_used_again(model):
    pool = Sessions()
    with pool.take(model._plan) as first:
        forward(8)(first)
    with pool.take(model._plan) as second:
        assert second is first and not len(pool)
    assert len(pool) == 1
    pool.clear()
    assert not len(pool)


def test_idle_sessions_hold_no_more_than_allowed(model, monkeypatch):
    pool = Sessions()
    at_once(pool, model._plan, 6, forward(50))
    assert len(pool) == 6  # small ones: all are kept
    with pool.take(model._plan) as session:
        held = session.nbytes
    assert held > 10_000
    monkeypatch.setattr(sessions, "KEPT_BYTES", 2 * held)
    at_once(pool, model._plan, 6, forward(50))
    assert len(pool) == 2


def test_a_session_that_grew_is_kept_small(model, monkeypatch):
    monkeypatch.setattr(sessions, "KEPT_BYTES", 10_000)
    pool = Sessions()
    with pool.take(model._plan) as session:
        first = forward(60)(session)
        assert session.nbytes > 10_000
    assert len(pool) == 1 and session.nbytes == 0
    with pool.take(model._plan) as again:
        assert again is session and np.array_equal(forward(60)(again), first)


def test_what_a_burst_left_over_is_given_up(model, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(sessions.time, "monotonic", lambda: now[0])
    pool = Sessions()
    at_once(pool, model._plan, 5, forward(8))
    for _ in range(3):  # one caller at a time, for longer than they are kept
        now[0] += sessions.KEPT_SECONDS * 0.6
        with pool.take(model._plan):
            pass
    assert len(pool) == 1


def test_a_generation_leaves_no_keys_and_values(model):
    with model._idle.take(model._plan) as session:
        ids, ends = np.full(40, 7, np.int32), np.array([0, 40], np.int64)
        empty = session.nbytes
        session.run(ids, ends, "logits", last_only=True, slots=[0])
        full = session.nbytes
        session.free_slot(0)
        assert empty < session.nbytes < full
    list(model.generate_tokens([7] * 40, 3, stop=()))
    with model._idle.take(model._plan) as session:
        assert session.slot_length(0) == 0


def test_a_slot_forgets_its_end(model):
    ids = np.arange(3, 15, dtype=np.int32)

    def run(session, begin, end, slot=0):
        part = ids[begin:end]
        return session.run(part, np.array([0, len(part)], np.int64), "logits", last_only=True, slots=[slot])

    with model._idle.take(model._plan) as session:
        wanted = run(session, 0, 12)
        session.truncate_slot(0, 5)
        assert session.slot_length(0) == 5
        np.testing.assert_allclose(run(session, 5, 12), wanted, rtol=1e-4, atol=1e-5)
        session.truncate_slot(0, 12)  # nothing
        session.truncate_slot(0, 0)
        np.testing.assert_array_equal(run(session, 0, 12), wanted)
        session.truncate_slot(9, 0)  # a slot that was never used
        for slot, length in ((0, 13), (0, -1), (9, 1)):
            with pytest.raises(DataError, match=f"slot {slot}: expected a length up to"):
                session.truncate_slot(slot, length)
        session.free_slot(0)


def test_an_abandoned_generation_gives_its_session_back(model):
    tokens = model.generate_tokens([7] * 40, 20, stop=())
    next(tokens)
    idle = len(model._idle)
    tokens.close()
    assert len(model._idle) == idle + 1

"""Who is in a step, and how much of a step there is: counted, without models."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aerogel.engine.scheduling.pace import LEAST_TOKENS, Pace, Room
from aerogel.engine.scheduling.turns import deal


class Pieces:
    """A request of pieces."""

    lane = "lane"

    def __init__(self, number, pieces, priority=0):
        self.number, self.pieces, self.priority = number, list(pieces), priority
        self.served = None
        self.waiting = sum(self.pieces)

    def piece(self):
        return self.pieces[0] if self.pieces else 0

    def take(self):
        self.pieces.pop(0)


def served(requests, step, room=100):
    """Who has a part in the step."""
    deal(requests, Room(room, None, {}), step)
    return [one.number for one in requests if one.served == step]


def test_a_new_request_is_in_the_next_step_whatever_runs():
    long = [Pieces(i, [50] * 100) for i in range(10)]
    for step in range(1, 20):
        served(long, step)
    assert 10 in served([*long, Pieces(10, [30])], 20)
    assert {30, 40} <= set(served([*long, *(Pieces(30 + i, [50] * 100) for i in range(10)), Pieces(40, [30])], 21))


def test_neither_new_nor_long_ones_keep_the_others_out():
    long = [Pieces(i, [60] * 40) for i in range(3)]
    served(long, 1)
    turns = []
    for step in range(2, 20):  # as many new ones as fill two steps
        turns += [one for one in served([*long, *(Pieces(100 * step + i, [50]) for i in range(4))], step) if one < 3]
    assert all(turns.count(i) >= 5 for i in range(3))


def test_those_of_a_higher_priority_go_first():
    low, high = Pieces(0, [40] * 9), Pieces(1, [40] * 3, priority=1)
    assert served([low, high], 1) == [1] and len(high.pieces) == 1
    assert served([low, high], 2) == [0, 1] and len(low.pieces) == 8  # it has what room is left


def test_what_is_longer_than_a_step_is_run():
    assert served([Pieces(0, [500])], 1) == [0]


requests = st.lists(st.tuples(st.lists(st.integers(1, 120), min_size=1, max_size=6), st.integers(0, 1)), max_size=8)


@settings(max_examples=60, deadline=None)
@given(requests, st.integers(1, 100))
def test_every_piece_is_run_once_and_steps_keep_to_their_room(found, most):
    there = [Pieces(i, *one) for i, one in enumerate(found)]
    for step in range(1, 1 + sum(len(one.pieces) for one in there)):
        room = Room(most, None, {})
        waiting = [one for one in there if one.pieces]
        before = {one.number: one.pieces[0] for one in waiting}
        deal(waiting, room, step)
        if waiting:
            top = [one for one in waiting if one.priority == max(two.priority for two in waiting)]
            assert any(one.served == step for one in top)
        assert room.used <= most + 3 * max(before.values(), default=0)  # three need not fit
    assert not any(one.pieces for one in there)


def test_a_step_has_as_much_as_its_time_allows():
    pace = Pace()
    assert not Room(10_000, 0.02, {"a": pace}).fits("a", LEAST_TOKENS + 1)  # nothing is known yet
    for _ in range(30):
        pace.add(1000, 0.02)
    room = Room(10_000, 0.02, {"a": pace, "b": pace})
    assert room.fits("a", 990) and not room.fits("a", 1010)
    room.use("a", 600)
    assert room.fits("b", 390) and not room.fits("b", 410)
    for _ in range(30):  # it has become slower
        pace.add(1000, 0.04)
    assert not Room(10_000, 0.02, {"a": pace}).fits("a", 600)
    assert Room(10_000, 0.0001, {"a": pace}).fits("a", LEAST_TOKENS)
    assert not Room(100, 1.0, {"a": pace}).fits("a", 101)


def test_a_pass_takes_as_long_as_reading_the_weights():
    pace = Pace()
    pace.add(4, 0.01)
    pace.add(1000, 0.02)
    assert pace.seconds(1) == pace.seconds(300) == 0.01 and pace.seconds(2000) == 0.04

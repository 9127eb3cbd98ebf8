"""Schedules and the clock."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerogel.errors import RecipeError
from aerogel.train.schedule import Clock, cubic, learning_rate, stages

FRACTION = st.floats(0, 1)


def test_cubic_is_the_papers_formula() -> None:
    for t in (0.0, 0.25, 0.5, 1.0):
        assert cubic(t, 0.1, 0.9) == pytest.approx(0.9 + (0.1 - 0.9) * (1 - t) ** 3)
    assert cubic(5, 0.1, 0.9, duration=10) == pytest.approx(0.9 - 0.8 / 8)
    assert cubic(11, 0.1, 0.9, duration=10) == 0.9


@given(FRACTION, FRACTION, FRACTION, FRACTION)
def test_cubic_rises_within_its_ends(a: float, b: float, t: float, u: float) -> None:
    low, high = sorted((a, b))
    t, u = sorted((t, u))
    assert low - 1e-12 <= cubic(t, low, high) <= cubic(u, low, high) + 1e-12 <= high + 2e-12


@given(st.integers(1, 40), FRACTION, FRACTION, FRACTION)
def test_stages_rise_in_time_and_end_exactly_at_the_final_sparsity(n: int, a: float, b: float, until: float) -> None:
    low, high = sorted((a, b))
    found = stages(n, low, high, until)
    assert len(found) == n and found[0].begin == 0 and found[-1].sparsity == high
    assert all(x.begin <= y.begin and x.sparsity <= y.sparsity + 1e-12 for x, y in zip(found, found[1:]))
    assert all(stage.begin <= until for stage in found)


@pytest.mark.parametrize(("arguments", "message"), [
    ((0, 0.0, 0.5, 0.5), "stages: expected at least 1, got 0"),
    ((4, 0.6, 0.5, 0.5), "initial: expected a number from 0 to 0.5, got 0.6"),
    ((4, 0.0, 1.5, 0.5), "final: expected a number from 0 to 1, got 1.5"),
    ((4, 0.0, 0.5, 1.5), "prune_until: expected a fraction from 0 to 1, got 1.5"),
])  # fmt: skip
def test_impossible_schedules_are_refused(arguments, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        stages(*arguments)


@given(FRACTION, st.floats(0, 0.9))
def test_the_learning_rate_warms_up_and_falls_to_zero(progress: float, warmup: float) -> None:
    assert 0 <= learning_rate(progress, 1e-3, warmup) <= 1e-3
    assert learning_rate(1.0, 1e-3, warmup) == pytest.approx(0, abs=1e-9)
    assert learning_rate(warmup, 1e-3, warmup) == pytest.approx(1e-3)


def test_a_clock_of_steps_does_not_look_at_the_time() -> None:
    clock = Clock(steps=4, now=lambda: math.nan)
    seen = []
    while (progress := clock.progress) < 1:
        seen.append(progress)
        clock.step += 1
    assert seen == [0, 0.25, 0.5, 0.75]


def test_a_clock_of_minutes_ends_on_time_and_goes_on_after_a_resume() -> None:
    time = [100.0]
    clock = Clock(minutes=2, now=lambda: time[0])
    time[0] += 30
    assert clock.progress == 0.25
    clock.resume(step=7, elapsed=90)
    time[0] += 15
    assert clock.progress == pytest.approx(105 / 120) and clock.step == 7
    time[0] += 1000
    assert clock.progress == 1


def test_of_two_budgets_the_first_to_be_used_up_counts() -> None:
    time = [0.0]
    clock = Clock(steps=10, minutes=1, now=lambda: time[0])
    clock.step = 5
    assert clock.progress == 0.5
    time[0] = 54
    assert clock.progress == 0.9


@pytest.mark.parametrize("budget", [{}, {"steps": 0}, {"minutes": 0}, {"minutes": math.nan}, {"minutes": math.inf}])
def test_a_budget_is_needed(budget) -> None:
    with pytest.raises(RecipeError, match="budget|steps|minutes"):
        Clock(**budget)

import math

from hypothesis import given
from hypothesis import strategies as st

from aerogel.sweeps.front import contradictions, pareto

VALUES = st.floats(-5, 5) | st.integers(-2, 2).map(float) | st.just(math.nan)


@given(st.lists(st.tuples(VALUES, VALUES), max_size=12))
def test_the_front_is_what_nothing_beats(points):
    front = pareto([c for c, _ in points], [s for _, s in points])
    known = [p for p in points if not any(map(math.isnan, p))]
    for (cost, score), on in zip(points, front):
        if math.isnan(cost) or math.isnan(score):
            assert not on
            continue
        better = [p for p in known if p[0] <= cost and p[1] >= score and p != (cost, score)]
        assert on == (not better)
    assert any(front) == bool(known)


def entry(sparsity, size, time=None, **point):
    timing = None if time is None else {"median": time, "q1": 0.9 * time, "q3": 1.1 * time}
    return {"point": {"sparsity": sparsity, **point}, "sparsity": sparsity, "bytes": size, "timing": timing}


def test_more_sparsity_in_a_larger_file():
    found = contradictions([entry(0.8, 90), entry(0.5, 80), entry(0.9, 70), entry(0.95, 95, quant="bf16")])
    assert found == [["larger than at 50.0% sparsity"], [], [], []]


def test_more_sparsity_that_is_slower():
    found = contradictions([entry(0.5, 9, 1.0), entry(0.8, 8, 1.3), entry(0.9, 7, 1.1), entry(0.95, 6)])
    assert found == [[], ["slower than at 50.0% sparsity"], [], []]  # 1.1 is within the quartiles of 1.0


def test_patterns_of_windows_are_one_family():
    points = [
        {"point": {"pattern": f"{q}:64"}, "sparsity": 1 - q / 64, "bytes": size, "timing": None}
        for q, size in ((16, 50), (8, 60))
    ]
    assert contradictions(points) == [[], ["larger than at 75.0% sparsity"]]
    assert contradictions([points[0], {**points[1], "point": {"pattern": "unstructured"}}]) == [[], []]

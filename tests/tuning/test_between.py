"""Kinds of layers whose times follow from their neighbours', and formats that need a longer look; made-up times."""

import pytest

from aerogel.tuning import ROWS, Layer, Times, formats_of, in_turn
from aerogel.tuning.between import between
from aerogel.tuning.measure import contenders


def layer(sparsity, n=64):
    return Layer("int8", n, 64, sparsity, "unstructured", 1)


def times(of, share):
    formats = formats_of(of)
    return Times(
        {f: dict.fromkeys(ROWS, 1.0 if f == formats[0] else share) for f in formats}, dict.fromkeys(formats, 9)
    )


def test_times_lie_between_those_of_the_neighbours():
    known = {layer(0.7): times(layer(0.7), 0.6), layer(0.8): times(layer(0.8), 0.4)}
    found = between(layer(0.75), known.get)
    assert found is not None
    for format, rows in found.seconds.items():
        assert rows[16] == pytest.approx(1.0 if format == "dense_q8" else 0.5)


@pytest.mark.parametrize("shares", [(1.2, 0.8), (0.98, 0.9)])
def test_what_is_near_dense_is_measured(shares):
    known = {layer(s): times(layer(s), share) for s, share in zip((0.7, 0.8), shares, strict=True)}
    assert between(layer(0.75), known.get) is None


def test_neighbours_are_needed_and_near():
    assert between(layer(0.75), {layer(0.7): times(layer(0.7), 0.5)}.get) is None
    far = {layer(s): times(layer(s), 0.5) for s in (0.5, 0.95)}
    assert between(layer(0.75), far.get) is None


def test_ends_are_measured_first():
    order = in_turn([layer(s) for s in (0.75, 0.6, 0.65, 0.7, 0.8)])
    assert {kind.sparsity for kind in order[:3]} == {0.6, 0.7, 0.8} and len(order) == 5
    assert in_turn([layer(0.8), layer(0.8, 128)]) == [layer(0.8), layer(0.8, 128)]


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        ({"dense": 1.0, "a": 0.5, "b": 2.0}, []),
        ({"dense": 1.0, "a": 0.5, "b": 0.55}, ["a", "b"]),
        ({"dense": 1.0, "a": 0.5, "b": 1.05}, ["dense", "b"]),
        ({"dense": 1.0, "a": 0.95, "b": 2.0}, ["dense", "a"]),
    ],
)
def test_only_what_a_glance_does_not_decide_is_looked_at_again(seconds, found):
    assert contenders(seconds, "dense") == found

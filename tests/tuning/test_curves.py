"""Curves over sparsities, and where the zeros of a pattern lie."""

import numpy as np
import pytest

from aerogel import tuning
from aerogel.errors import AerogelError
from aerogel.tuning import Curve
from aerogel.tuning.choice import ROWS, Times
from aerogel.tuning.zeros import own_sparsity, random_kept


@pytest.mark.parametrize(
    "pattern, sparsity, name",
    [
        ("4x1", 0.8, "4x1"),
        ("2x1", 0.5, "2x1"),
        ("8x1", 0.8, "4x1"),
        ("1x4:sum", 0.8, "1x4"),
        ("8:64", 0.875, "8:64"),
        ("8:64x4", 0.875, "8:64x4"),
        ("2:4", 0.5, "2:4"),
        ("unstructured", 0.8, "unstructured"),
    ],
)
@pytest.mark.parametrize("numbers", ["int8", "int4", "float32"])
def test_random_zeros_lie_as_the_pattern_says(numbers, pattern, sparsity, name):
    source, alive = tuning.random_source(numbers, 100, 1000 if numbers == "int8" else 1024, sparsity, pattern)
    assert source.sparsity == pytest.approx(sparsity, abs=0.02)
    assert tuning.layer_of(source, 1).pattern == name
    del alive


def test_zeros_at_the_edges():
    kept = random_kept(10, 70, 0.0, "8:64x4", np.random.default_rng(0))
    assert kept.shape == (10, 70) and (kept[:, :64].sum(1) == 8).all()
    assert (kept[:8] == kept[[0, 0, 0, 0, 4, 4, 4, 4]]).all() and (kept[8] == kept[9]).all()
    assert own_sparsity("8:64x4") == own_sparsity("8:64") == 0.875 and own_sparsity("4x1") is None
    with pytest.raises(AerogelError, match="expected unstructured, RxC, .* got 'banana'"):
        random_kept(4, 4, 0.5, "banana", np.random.default_rng(0))


def test_what_a_layer_would_take():
    found = Curve((0.3, 0.5, 0.9), (2.0,) * 3, (3.0, 2.0, 0.5))
    assert [found.share(s) for s in (0.0, 0.3, 0.5, 0.9, 0.99)] == [1, 1, 1, 0.25, 0.25]
    assert found.share(0.7) == pytest.approx(1 / 2.5)  # the gain is interpolated
    four = Curve((0.3, 0.5, 0.9), (2.0,) * 3, (3.0, 2.0, 0.5), compact=1.0)
    assert [four.share(s) for s in (0.0, 0.5, 0.9)] == [0.5, 0.5, 0.25] and four.wins_from > found.wins_from


def test_curves_of_patterns_are_measured_once(monkeypatch, tmp_path):
    monkeypatch.setenv("AEROGEL_TUNE", "on")
    monkeypatch.setenv("AEROGEL_CACHE", str(tmp_path))
    monkeypatch.setattr("aerogel.tuning.curves.SPARSITIES", (0.5, 0.9))
    monkeypatch.setattr("aerogel.tuning.curves.ENOUGH", 2)
    measured = []

    def made_up(source, layer, timer):
        measured.append((layer.pattern, layer.sparsity, source.n))
        return Times({f: dict.fromkeys(ROWS, 1.0) for f in tuning.formats_of(layer)}, dict.fromkeys(FORMATS, 1))

    FORMATS = tuning.FORMATS["int8"]
    monkeypatch.setattr("aerogel.tuning.measure._measure", made_up)
    steps = [{"name": name, "numbers": "int8", "shape": (128, 64), "terms": 1} for name in "ab"]
    for _ in range(2):
        found = tuning.curves_of(steps, 8, 1, False, "4x1")
        assert found["a"] is found["b"] and found["a"].sparsities == (0.5, 0.9)
        assert tuning.curves_of(steps[:1], 8, 1, False, "8:64x4")["a"].sparsities == (0.875,)
    unstructured = [
        ("unstructured", 0.5, 128),
        ("unstructured", 0.9, 128),
    ]  # for its dense times: one look may be disturbed
    assert measured == [("4x1", 0.5, 128), ("4x1", 0.9, 128), *unstructured, ("8:64x4", 0.875, 128)]


def test_a_disturbed_look_does_not_count():
    found = Curve((0.3, 0.5, 0.7, 0.8, 0.9), (2.0, 2.0, 5.0, 2.0, 2.0), (3.0, 2.0, 1.5, 1.0, 0.5))
    assert found.dense_seconds == 2 and found.gain(0.7) == pytest.approx(2 / 1.5)

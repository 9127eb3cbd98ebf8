import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerogel.budget import BUDGETS, budget
from aerogel.budget.sensitivity import TRIED, error_curve
from aerogel.budget.shares import shift_to_mean
from aerogel.calibrate import Statistics
from aerogel.errors import RecipeError

RNG = np.random.default_rng(0)
SHAPES = {"a": (8, 24), "b": (40, 24), "c": (16, 16), "d": (5, 70)}


def looked(name):
    """A budget that has seen four layers; "b" has large weights, "d" inputs with an outlier."""
    rng = np.random.default_rng(1)
    found = budget(name)
    for layer, (n, k) in SHAPES.items():
        w = rng.standard_normal((n, k), np.float32) * (5 if layer == "b" else 1)
        x = rng.standard_normal((200, k), np.float32)
        if layer == "d":
            x[:, 3] *= 100
        found.look(layer, w, Statistics.of(x))
    return found


@pytest.mark.parametrize("name", BUDGETS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.8, 0.97, 1.0])
def test_the_mean_is_what_was_asked(name, sparsity):
    shares = looked(name).share(sparsity)
    assert list(shares) == list(SHAPES)
    assert all(0 <= s <= 1 for s in shares.values())
    size = {layer: n * k for layer, (n, k) in SHAPES.items()}
    mean = sum(shares[layer] * size[layer] for layer in shares) / sum(size.values())
    assert mean == pytest.approx(sparsity, abs=1e-6 if name != "global" else 0.5 / sum(size.values()))  # whole weights


@pytest.mark.parametrize("name", BUDGETS)
def test_shares_rise_with_the_whole(name):
    seen = looked(name)
    shares = [seen.share(s) for s in (0.2, 0.5, 0.7, 0.9)]
    totals = [sum(share[layer] * n * k for layer, (n, k) in SHAPES.items()) for share in shares]
    assert totals == sorted(totals)
    if name in ("uniform", "global"):
        for layer in SHAPES:
            assert [share[layer] for share in shares] == sorted(share[layer] for share in shares)


def test_who_keeps_more():
    assert len(set(looked("uniform").share(0.5).values())) == 1
    assert min(looked("global").share(0.5), key=looked("global").share(0.5).get) == "b"  # its weights are larger
    assert min(looked("owl").share(0.5), key=looked("owl").share(0.5).get) == "d"  # a column of outliers


def test_sensitivity_beats_uniform_by_its_own_measure():
    seen = looked("sensitivity")
    rng = np.random.default_rng(1)
    curves = {}
    for layer, (n, k) in SHAPES.items():
        w = rng.standard_normal((n, k), np.float32) * (5 if layer == "b" else 1)
        x = rng.standard_normal((200, k), np.float32)
        if layer == "d":
            x[:, 3] *= 100
        curves[layer] = error_curve(w, Statistics.of(x))
    for sparsity in (0.5, 0.8):
        shared = sum(np.interp(s, TRIED, curves[layer]) for layer, s in seen.share(sparsity).items())
        same = sum(np.interp(sparsity, TRIED, curve) for curve in curves.values())
        assert shared < same


def test_error_curves_rise_from_nothing_to_everything():
    w, x = RNG.standard_normal((6, 30), np.float32), RNG.standard_normal((50, 30), np.float32)
    curve = error_curve(w, Statistics.of(x))
    assert curve[0] == 0 and curve[-1] == pytest.approx(1, rel=1e-4) and (np.diff(curve) >= 0).all()
    assert (error_curve(np.zeros((3, 30), np.float32), Statistics.of(x)) == 0).all()


@given(
    st.lists(st.tuples(st.floats(-1, 2), st.integers(1, 10**7)), min_size=1, max_size=20),
    st.floats(0, 1),
)
def test_shifting(layers, sparsity):
    wishes = {str(i): wish for i, (wish, _) in enumerate(layers)}
    sizes = {str(i): size for i, (_, size) in enumerate(layers)}
    shares = shift_to_mean(wishes, sizes, sparsity)
    assert all(0 <= s <= 1 for s in shares.values())
    mean = sum(shares[i] * sizes[i] for i in shares) / sum(sizes.values())
    assert mean == pytest.approx(sparsity, abs=1e-6)
    order = sorted(wishes, key=wishes.get)
    assert [shares[i] for i in order] == sorted(shares[i] for i in order)


def test_unknown_names_are_refused():
    with pytest.raises(RecipeError, match="expected one of uniform, global, owl, sensitivity, got 'mine'"):
        budget("mine")

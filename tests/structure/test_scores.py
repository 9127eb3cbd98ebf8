import itertools

import numpy as np
import pytest

from aerogel.errors import RecipeError
from aerogel.structure import SCORES, score
from aerogel.structure.elimination import eliminate
from aerogel.structure.scores import Connected, share
from aerogel.structure.selection import best, rounded, spread


def reader(seed, units=8, size=3, n=5, tokens=100):
    random = np.random.default_rng(seed)
    k = units * size
    x = (random.standard_normal((tokens, k)) @ random.standard_normal((k, k))).astype(np.float32)
    w = random.standard_normal((n, k)).astype(np.float32)
    return x, Connected(w, 1, size, (x.T @ x / tokens).astype(np.float32))


@pytest.mark.parametrize("name, power", [("weights", 1), ("energy", 2)])
def test_sums_of_connected_weights(name, power):
    random = np.random.default_rng(0)
    rows, bias, columns = (random.standard_normal(s).astype(np.float32) for s in ((12, 7), (12,), (5, 24)))
    got = SCORES[name].function([Connected(rows, 0, 2), Connected(bias, 0, 2), Connected(columns, 1, 4)])
    for unit in range(6):
        parts = [rows[2 * unit : 2 * unit + 2], bias[2 * unit : 2 * unit + 2], columns[:, 4 * unit : 4 * unit + 4]]
        assert got[unit] == pytest.approx(sum((np.abs(p.astype(float)) ** power).sum() for p in parts), rel=1e-6)


@pytest.mark.parametrize("size", [1, 3])
def test_contribution_is_the_energy_of_what_a_unit_adds_to_the_output(size):
    found, want = [], 0
    for seed in (1, 2):
        x, part = reader(seed, size=size)
        found.append(part)
        own = [
            np.square(x[:, c : c + size] @ part.values[:, c : c + size].T).sum(1).mean()
            for c in range(0, 8 * size, size)
        ]
        want = want + np.array(own) / np.square(x @ part.values.T).sum(1).mean()
    silent = Connected(np.ones((8 * size, 2), np.float32), 0, size)  # what only writes does not count
    np.testing.assert_allclose(SCORES["contribution"].function([*found, silent]), want, rtol=1e-4)


def compensated_loss(x, w, stay):
    solution = np.linalg.lstsq(x[:, stay], x @ w.T, rcond=None)[0]
    return np.square(x @ w.T - x[:, stay] @ solution).sum(1).mean()


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_elimination_is_the_greedy_search_with_least_squares(seed, size):
    x, part = reader(seed, units=7, size=size)
    x = x.astype(np.float64)
    scores = eliminate([(part.values, x.T @ x / len(x), size)], damping=1e-9, step=0)
    left, order = list(range(7)), []
    while len(left) > 1:

        def loss(unit, left=left):
            return compensated_loss(x, part.values, [u * size + i for u in left if u != unit for i in range(size)])

        order.append(min(left, key=loss))
        left.remove(order[-1])
    got = np.argsort(scores, kind="stable")
    assert got[:6].tolist() == order or np.diff(np.sort(scores)).min() == 0
    first = [u * size + i for u in range(7) if u != order[0] for i in range(size)]
    whole = np.square(x @ part.values.T).sum(1).mean()
    assert scores.min() == pytest.approx(compensated_loss(x, part.values, first) / whole, rel=1e-3)


def test_elimination_in_larger_steps_is_nearly_as_good():
    x, part = reader(5, units=40, size=1, tokens=400)
    losses = []
    for step in (0, 0.04, 0.2):
        scores = eliminate([(part.values, part.gram, 1)], step=step)
        losses.append(compensated_loss(x, part.values, best(scores, 20)))
    blind = np.mean(
        [compensated_loss(x, part.values, np.random.default_rng(i).permutation(40)[:20]) for i in range(20)]
    )
    assert losses[1] <= 1.1 * losses[0] and losses[2] <= 1.5 * losses[0] and losses[0] < 0.8 * blind


def test_elimination_of_nothing_known():
    scores = eliminate([(np.ones((2, 4), np.float32), np.zeros((4, 4), np.float32), 1)])
    assert scores.shape == (4,) and np.isfinite(scores).all()


def test_every_score_is_a_row():
    for name, entry in SCORES.items():
        assert score(name) is entry and entry.needs in ("nothing", "gram") and entry.summary and entry.source
        x, part = reader(0)
        before = part.values.copy()
        first, second = entry.function([part]), entry.function(iter([part]))
        assert first.shape == (8,) and np.array_equal(first, second) and np.array_equal(part.values, before)
    with pytest.raises(RecipeError, match="score: expected one of weights, energy, .*, got 'luck'"):
        score("luck")


def test_shares():
    one, two = share([np.array([1.0, 3.0]), np.zeros(2)])
    assert one.tolist() == [0.25, 0.75] and two.tolist() == [0, 0]


def test_the_best_units_stay():
    scores = np.array([3, 1, 2, 2, 2, 0.0])
    assert best(scores, 3).tolist() == [0, 2, 3]
    assert best(scores, 4, sections=2).tolist() == [0, 2, 3, 4]
    assert best(scores, 0).tolist() == [] and best(scores, 6).tolist() == list(range(6))


@pytest.mark.parametrize(
    "amount, count, multiple, minimum, expected",
    [(50, 100, 8, 1, 48), (100, 100, 8, 1, 100), (3, 100, 8, 1, 8), (97.5, 100, 8, 0, 96), (99, 100, 64, 1, 100),
     (1.4, 6, 1, 0, 1), (0.2, 6, 1, 0, 1), (2, 6, 3, 3, 3), (5, 4, 1, 1, 4), (3, 4, 8, 1, 4)],
)  # fmt: skip
def test_rounding(amount, count, multiple, minimum, expected):
    assert rounded(amount, count, multiple, minimum) == expected


@pytest.mark.parametrize("multiple, minimum", list(itertools.product([1, 4], [0, 1, 5])))
@pytest.mark.parametrize("total", [0, 13, 40, 59, 60])
def test_spreading_over_groups(total, multiple, minimum):
    random = np.random.default_rng(total)
    scores = [random.random(20) * scale for scale in (1, 3, 0.1)]
    counts = spread(scores, total, [multiple] * 3, [minimum] * 3)
    least = -(-minimum // multiple) * multiple
    assert all(least <= c <= 20 and c % multiple == 0 for c in counts)
    assert abs(sum(counts) - max(total, 3 * least)) <= multiple / 2
    if multiple == 1 and minimum == 0:  # then it is the best of all
        kept = np.concatenate([np.sort(s)[::-1][:c] for s, c in zip(scores, counts)])
        assert np.sort(kept).tolist() == np.sort(np.concatenate(scores))[60 - total :].tolist()

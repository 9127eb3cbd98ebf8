"""Sharing bits out among layers."""

import itertools

import numpy as np
import pytest

from aerogel.budget.bits import CHOICES, bits_of, share_bits
from aerogel.errors import RecipeError
from aerogel.quantize import scheme


def test_names():
    assert bits_of("auto:4.5bits") == bits_of("auto:4.5") == 4.5
    assert bits_of("int4:g64") is None and bits_of("automatic") is None
    for choice in CHOICES:
        scheme(choice)
    for wrong in ("auto", "auto:", "auto:4.2", "auto:9bits", "auto:many", "auto:4.5bits:asym"):
        with pytest.raises(RecipeError, match=r"quantize.weights: expected auto:B with 4.3 to 8.0 bits"):
            bits_of(wrong)


def layers(count):
    random = np.random.default_rng(count)
    size = {str(i): random.integers(1, 9) for i in range(count)}
    sizes = {i: {"small": 4.0 * n, "middle": 4.5 * n, "large": 8.0 * n} for i, n in size.items()}
    costs = {}
    for i in size:
        cost = float(np.exp(2 * random.standard_normal()))
        costs[i] = {"small": cost, "middle": cost * random.uniform(0.6, 1.05), "large": 0.01 * cost}
    return costs, sizes


@pytest.mark.parametrize("part", [0.1, 0.3, 0.7, 1.0])
def test_little_is_lost_to_the_best_choice(part):
    costs, sizes = layers(6)
    least, most = (sum(of[scheme] for of in sizes.values()) for scheme in ("small", "large"))
    budget = least + part * (most - least)
    best = np.inf
    for schemes in itertools.product(*(costs[i] for i in costs)):
        if sum(sizes[i][s] for i, s in zip(costs, schemes, strict=True)) <= budget:
            best = min(best, sum(costs[i][s] for i, s in zip(costs, schemes, strict=True)))
    chosen = share_bits(costs, sizes, budget)
    assert sum(sizes[i][s] for i, s in chosen.items()) <= budget
    found = sum(costs[i][s] for i, s in chosen.items())
    start = sum(cost["small"] for cost in costs.values())
    assert start - found > 0.8 * (start - best)  # what does not fit at the end is left


def test_the_ends():
    costs, sizes = layers(5)
    assert set(share_bits(costs, sizes, 0).values()) == {"small"}
    assert set(share_bits(costs, sizes, 1e9).values()) == {"large"}
    nothing = {i: dict.fromkeys(of, 0.0) for i, of in costs.items()}
    assert set(share_bits(nothing, sizes, 1e9).values()) == {"small"}
    assert share_bits({}, {}, 1) == {}

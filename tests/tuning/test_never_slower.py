"""With a clock of made-up costs: whatever they are, what is chosen is nowhere slower than dense."""

import math

import numpy as np
import pytest

from aerogel import tuning
from aerogel.tuning import Layer, Tuner
from aerogel.tuning.choice import CHECKED, NOISE, PURPOSES, Times
from aerogel.tuning.layers import formats_of, tiles
from aerogel.tuning.measure import LEARNT, measured


class Costs:
    """Costs of formats as kernels have them: something a call, something a tile of tokens begun, and weights from DRAM."""

    def __init__(self, seed, noise=0.0):
        self.random = np.random.default_rng(seed)
        self.noise = noise
        self.of = {}
        self.asked = set()

    def seconds(self, format, rows, evict):
        if format not in self.of:
            wide = tiles().get(format, 1)
            call, token, stream = self.random.uniform((0, 0.4, 0), (2, 1.6, 4))
            if format == "dense_q8":
                call, token = 0.8, 1.0
            self.of[format] = (call, token, stream, wide, self.random.uniform(0.2, 1))
        call, token, stream, wide, part = self.of[format]
        whole, rest = divmod(rows, wide)
        # Tokens that do not fill a tile cost a part of it, or up to all of it.
        tail = 0 if not rest else wide * (part + (1 - part) * math.ceil(rest / wide * 4) / 4)
        return 1e-5 * (
            call * (1 + 0.1 * (whole + (rest > 0))) + token * (whole * wide + tail) + (stream if evict else 0)
        )

    def __call__(self, weights, rows, threads, rounds, seconds, evict):
        self.asked.add((rows, evict))
        exact = [self.seconds(w.forms[0]["format"], rows, evict) for w in weights]
        return [[s * (1 + self.noise * abs(self.random.standard_normal())) for _ in range(4)] for s in exact]


@pytest.fixture
def tuned(monkeypatch, tmp_path):
    monkeypatch.setenv("AEROGEL_TUNE", "on")
    monkeypatch.setenv("AEROGEL_CACHE", str(tmp_path))
    monkeypatch.setattr("aerogel.tuning.measure.remembered", lambda layer: None)


@pytest.mark.parametrize("purpose", list(PURPOSES))
@pytest.mark.parametrize("streamed", [False, True])
def test_never_slower_than_dense_whatever_kernels_cost(tuned, monkeypatch, purpose, streamed):
    monkeypatch.setattr("aerogel.tuning.cache.Cache.put", lambda self, layer, times: None)
    source, alive = tuning.random_source("int8", 16, 64, 0.6)
    dense_only = 0
    for seed in range(5):
        costs = Costs(seed)
        forms = Tuner(1, streamed, purpose=purpose, timer=costs).measure(source)
        dense_only += forms == [("dense_q8", None)]
        truth = Times({}, {}, tiles())
        for rows in CHECKED:
            # Of a model from DRAM the rows behind the first 128 find the weights in the caches.
            taken = sum(costs.seconds(f, part, streamed) for f, part in truth.shared(forms, rows))
            dense = costs.seconds("dense_q8", rows, streamed)
            assert taken <= (1 + NOISE + 0.01) * dense, (seed, forms, rows)
        assert {rows for rows, evict in costs.asked if evict == streamed} == {1, 2, 4, 9, 16, 17, 32, 128}
        assert ((128, False) in costs.asked) and len(costs.asked) == 8 + streamed
    assert dense_only < 5  # the others gain
    del alive


def test_noise_of_the_clock_costs_no_more_than_itself(tuned, monkeypatch):
    monkeypatch.setattr("aerogel.tuning.cache.Cache.put", lambda self, layer, times: None)
    source, alive = tuning.random_source("int8", 16, 64, 0.6)
    for seed in range(3):
        costs = Costs(seed, noise=0.02)
        forms = Tuner(1, timer=costs).measure(source)
        truth = Times({}, {}, tiles())
        for rows in CHECKED:
            taken = sum(costs.seconds(f, part, False) for f, part in truth.shared(forms, rows))
            assert taken <= (1 + NOISE + 0.06) * costs.seconds("dense_q8", rows, False), (seed, forms, rows)
    del alive


def test_many_rows_of_a_model_from_dram_are_what_they_are_with_weights_in_the_caches(tuned, monkeypatch):
    monkeypatch.setattr("aerogel.tuning.cache.Cache.put", lambda self, layer, times: None)
    source, alive = tuning.random_source("int8", 16, 64, 0.6)
    for streamed in (False, True):
        costs = Costs(1)
        times = measured(source, Layer("int8", 16, 64, 0.6, "unstructured", 1, streamed), costs)
        for format in formats_of(Layer("int8", 16, 64, 0.6, "unstructured", 1)):
            expected = LEARNT.get(format, 1) * (
                costs.seconds(format, 128, streamed) + 15 * costs.seconds(format, 128, False)
            )
            assert times.seconds[format][2048] == pytest.approx(expected)
    del alive

"""Ragged batches in a seeded order."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from aerogel.errors import DataError  # noqa: E402
from aerogel.train.batches import Sequences, Stream  # noqa: E402

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=60)


def sequences(lengths: list[int]) -> Sequences:
    return Sequences([[1000 * i + j for j in range(n)] for i, n in enumerate(lengths)])


@given(LENGTHS, st.integers(1, 100), st.integers(0, 3))
@settings(deadline=None)
def test_an_epoch_has_every_sequence_once_within_the_budget(lengths: list[int], tokens: int, seed: int) -> None:
    data = sequences(lengths)
    for batches in (data.epoch(seed, tokens, seed), data.by_length(tokens)):
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
        assert all(len(b) == 1 or data.lengths[b].sum() <= tokens for b in batches)
        assert all(len(b) for b in batches)


def test_a_batch_lays_its_sequences_end_to_end() -> None:
    batch = sequences([2, 1, 3]).batch(np.array([2, 0]))
    assert batch.ids.tolist() == [2000, 2001, 2002, 0, 1] and batch.lengths.tolist() == [3, 2]
    assert batch.index.tolist() == [2, 0]


def test_the_seed_and_the_epoch_decide_the_order() -> None:
    data = sequences([3] * 200)
    first, again, second, other = (
        [b.tolist() for b in data.epoch(e, 30, s)] for e, s in ((0, 1), (0, 1), (1, 1), (0, 2))
    )
    assert first == again and first != second and first != other


def test_a_stream_goes_on_where_another_stopped() -> None:
    data = sequences(list(range(1, 20)))
    one, two = Stream(data, 40, seed=3), Stream(data, 40, seed=3)
    seen = [next(one).index.tolist() for _ in range(20)]
    for _ in range(7):
        next(two)
    three = Stream(data, 40, seed=3)
    three.position = two.position
    assert [next(three).index.tolist() for _ in range(13)] == seen[7:]
    assert one.position[0] >= 2


def test_lengths_within_a_batch_are_similar() -> None:
    random = np.random.default_rng(0)
    data = sequences(random.integers(5, 60, 2000).tolist())
    real = sum(int(data.lengths[b].sum()) for b in data.epoch(0, 512, 0))
    padded = sum(len(b) * int(data.lengths[b].max()) for b in data.epoch(0, 512, 0))
    assert padded < 1.15 * real


@pytest.mark.parametrize(("rows", "message"), [([], "got none"), ([[1], []], "text 1")])
def test_nothing_to_train_on_is_an_error(rows, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Sequences(rows)

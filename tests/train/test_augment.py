"""Texts made of other texts."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from aerogel.train.augment import RANDOM, Augmentation  # noqa: E402
from aerogel.train.batches import Sequences, Stream  # noqa: E402

BEGIN, END = 1, 2
WORDS = np.arange(1000, 1100)


def sequences(lengths: list[int]) -> Sequences:
    return Sequences([[BEGIN, *(100 * i + 10 + j for j in range(n)), END] for i, n in enumerate(lengths)])


def altered(lengths: list[int], share: float, seed: int = 0, most: int | None = None) -> list[list[int]]:
    batch = sequences(lengths).batch(np.arange(len(lengths)))
    made = Augmentation(share, WORDS, 1, 1, most)(batch, np.random.default_rng(seed))
    assert made.counts.tolist() == made.lengths.tolist() and made.index.tolist() == batch.index.tolist()
    assert made.counts.sum() == len(made.ids)
    return [row.tolist() for row in np.split(made.ids.numpy(), np.cumsum(made.counts)[:-1])]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=20), st.floats(0, 1), st.integers(0, 9))
@settings(deadline=None, max_examples=50)
def test_special_tokens_stay_and_lengths_have_bounds(lengths: list[int], share: float, seed: int) -> None:
    for length, row in zip(lengths, altered(lengths, share, seed, most=64), strict=True):
        assert row[0] == BEGIN and row[-1] == END and (len(row) > 2 or not length)
        assert len(row) - 2 <= max(length, RANDOM[1])


def test_without_a_share_nothing_changes() -> None:
    assert altered([5, 0, 30], 0.0) == altered([5, 0, 30], 0.0, seed=7)
    assert altered([3], 0.0) == [[BEGIN, 10, 11, 12, END]]


def test_a_text_is_replaced_by_a_part_of_it_by_itself_garbled_or_by_random_tokens() -> None:
    kinds = {"whole": 0, "part": 0, "garbled": 0, "random": 0}
    for i, row in enumerate(altered([20] * 600, 0.75)):
        own = [100 * i + 10 + j for j in range(20)]
        body = row[1:-1]
        kept = sum(a == b for a, b in zip(own, body, strict=False))
        if body == own:
            kinds["whole"] += 1
        elif set(body) <= set(own):
            kinds["part"] += 1
            assert body == own[body[0] - own[0] :][: len(body)]
        elif len(body) == 20 and kept:
            kinds["garbled"] += 1
            assert all(a == b or b in WORDS for a, b in zip(own, body, strict=True))
        else:
            kinds["random"] += 1
            assert set(body) <= {*WORDS.tolist(), *own}
    assert all(100 < count < 220 for count in kinds.values()), kinds


def test_random_texts_are_no_longer_than_texts_may_be() -> None:
    assert max(len(row) for row in altered([2] * 200, 1.0, most=8)) <= 8


def test_a_stream_alters_alike_at_the_same_position_and_anew_in_every_epoch() -> None:
    def batches(skip: int = 0) -> list[list[int]]:
        stream = Stream(sequences([6] * 4), 1000, 3, Augmentation(1.0, WORDS, 1, 1))
        stream.position = (skip, 0)
        return [next(stream).ids.tolist() for _ in range(3 - skip)]

    assert batches()[1:] == batches(1) and len({tuple(ids) for ids in batches()}) == 3

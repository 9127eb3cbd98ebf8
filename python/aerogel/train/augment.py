"""Texts made from those that there are: a student that sees the same ones again and again learns them by heart.

A teacher answers anything, so what is learnt from need not make sense (calibration gains as much from random words as from
text, see docs/calibration.md). A text is replaced by one of these:

part      a span of a text
garbled   a text with some of its tokens replaced by others, drawn alike from the vocabulary
random    3 to 48 tokens of the vocabulary
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from aerogel.checkpoint import Tokenizer
from aerogel.train.batches import Batch

#: Tokens that a text of random ones has, special ones aside.
RANDOM = (3, 48)
#: A part is not shorter.
SHORTEST_PART = 4
#: At most so much of a garbled text is replaced.
MOST_GARBLED = 0.6


@dataclass(frozen=True)
class Augmentation:
    """Replaces texts of a batch.

    Attributes:
        share: how many of them, 0 to 1: in equal parts by parts of themselves, garbled, and by random ones.
        vocabulary: int64, the tokens that are drawn from.
        before, after: special tokens that every text has around it; they stay.
        most: no text gets longer; None: any length.
    """

    share: float
    vocabulary: np.ndarray
    before: int
    after: int
    most: int | None = None

    @classmethod
    def of(cls, tokenizer: Tokenizer, share: float, most: int | None = None) -> Augmentation:
        """For texts that this tokenizer has encoded, with its special tokens, cut to `most`."""
        return cls(share, np.array(tokenizer.ordinary_ids(), np.int64), tokenizer.before, tokenizer.after, most)

    def __call__(self, batch: Batch, random: np.random.Generator) -> Batch:
        """The batch with some texts replaced; `index` stays what it was."""
        ids, rows, begin = batch.ids.numpy(), [], 0
        for count in batch.counts:
            rows.append(self._replaced(ids[begin : begin + count], random))
            begin += int(count)
        counts = np.array([len(row) for row in rows], np.int64)
        return Batch(torch.from_numpy(np.concatenate(rows)), torch.from_numpy(counts), batch.index, counts)

    def _replaced(self, row: np.ndarray, random: np.random.Generator) -> np.ndarray:
        kind = random.random() / self.share if self.share else 1.0
        end = len(row) - self.after
        body = row[self.before : end]
        if kind >= 1 or not len(body):
            return row
        if kind < 1 / 3:
            body = _part(body, random)
        elif kind < 2 / 3:
            body = body.copy()
            chosen = random.random(len(body)) < random.random() * MOST_GARBLED
            body[chosen] = random.choice(self.vocabulary, int(chosen.sum()))
        else:
            room = RANDOM[1] if self.most is None else max(1, min(RANDOM[1], self.most - self.before - self.after))
            body = random.choice(self.vocabulary, int(random.integers(min(RANDOM[0], room), room + 1)))
        return np.concatenate((row[: self.before], body, row[end:]))


def _part(body: np.ndarray, random: np.random.Generator) -> np.ndarray:
    if len(body) <= SHORTEST_PART:
        return body
    count = int(random.integers(SHORTEST_PART, len(body) + 1))
    begin = int(random.integers(len(body) - count + 1))
    return body[begin : begin + count]

"""Texts as ragged batches: sequences laid end to end, of similar lengths together, in an order that a seed decides."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from aerogel.errors import DataError

#: A pool of so many batches is sorted by length before it is cut, so that attention pads little.
POOL = 16


@dataclass(frozen=True)
class Batch:
    """S sequences of T tokens in all.

    Attributes:
        ids: int64 [T].
        lengths: int64 [S], never 0; ascending, but for texts that were altered.
        index: int64 [S], which sequences of the data these are, or were made of; on the CPU.
        counts: lengths once more, on the CPU, so that nobody waits for a GPU to know a shape.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    index: torch.Tensor
    counts: np.ndarray

    def to(self, device: torch.device) -> Batch:
        """With the tokens and lengths there."""
        return replace(self, ids=self.ids.to(device), lengths=self.lengths.to(device))

    def parts(self, most: int, least_tokens: int) -> list[Batch]:
        """The batch cut between sequences into parts of about as many tokens each: at most so many parts, and fewer where
        they would have fewer tokens than that.
        """
        tokens = len(self.ids)
        count = max(1, min(most, len(self.counts), tokens // least_tokens))
        ends = np.cumsum(self.counts)
        cuts = [int(np.argmin(np.abs(ends - tokens * i / count))) + 1 for i in range(1, count)]
        sequences = [0, *sorted(set(cuts) - {len(ends)}), len(ends)]
        if len(sequences) == 2:
            return [self]
        bounds = [(a, b, int(ends[a] - self.counts[a]), int(ends[b - 1])) for a, b in itertools.pairwise(sequences)]
        return [
            Batch(self.ids[begin:end], self.lengths[a:b], self.index[a:b], self.counts[a:b])
            for a, b, begin, end in bounds
        ]


class Sequences:
    """Token ids of all texts, int32 [tokens] with offsets [count + 1]."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        if not rows:
            raise DataError("texts: expected at least one, got none")
        self._take(np.concatenate([np.asarray(row, np.int32) for row in rows]), np.array([len(row) for row in rows]))

    @classmethod
    def of(cls, ids: np.ndarray, lengths: np.ndarray) -> Sequences:
        """Of all tokens end to end, int32 [tokens], which may be mapped from a file, and how many each text has."""
        if not len(lengths):
            raise DataError("texts: expected at least one, got none")
        made = cls.__new__(cls)
        made._take(ids, lengths)
        return made

    def _take(self, ids: np.ndarray, lengths: np.ndarray) -> None:
        self.ids, self.lengths = ids, lengths.astype(np.int64)
        if not self.lengths.all():
            raise DataError(f"text {int(np.argmin(self.lengths))}: expected at least one token, got none")
        self.offsets = np.concatenate(([0], np.cumsum(self.lengths)))

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, index: np.ndarray) -> Batch:
        """The sequences with these numbers."""
        ids = np.concatenate([self.ids[self.offsets[i] : self.offsets[i + 1]] for i in index])
        counts = self.lengths[index]
        return Batch(torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(counts), torch.from_numpy(index), counts)

    def by_length(self, batch_tokens: int) -> list[np.ndarray]:
        """All sequences once, shortest first, cut into batches."""
        return self._cut(np.argsort(self.lengths, kind="stable"), batch_tokens)

    def epoch(self, number: int, batch_tokens: int, seed: int) -> list[np.ndarray]:
        """All sequences once, in random batches of similar lengths: the same for the same number and seed."""
        random = np.random.default_rng((seed, number))
        order = random.permutation(len(self))
        mean = self.lengths.mean()
        pool = max(1, int(POOL * batch_tokens / mean))
        batches: list[np.ndarray] = []
        for begin in range(0, len(order), pool):
            part = order[begin : begin + pool]
            batches += self._cut(part[np.argsort(self.lengths[part], kind="stable")], batch_tokens)
        return [batches[i] for i in random.permutation(len(batches))]

    def _cut(self, order: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
        batches, begin, tokens = [], 0, 0
        for i, length in enumerate(self.lengths[order]):
            if i > begin and tokens + length > batch_tokens:
                batches.append(order[begin:i])
                begin, tokens = i, 0
            tokens += int(length)
        batches.append(order[begin:])
        return batches


#: (batch, random numbers that belong to its place in the run) -> the batch that is trained on.
Alter = Callable[[Batch, np.random.Generator], Batch]


class Stream:
    """Batches without end, epoch after epoch; `position` says how far it has come and can be set.

    With `alter`, each goes through that; the same at the same position.
    """

    def __init__(self, sequences: Sequences, batch_tokens: int, seed: int, alter: Alter | None = None) -> None:
        self._sequences, self._tokens, self._seed, self._alter = sequences, batch_tokens, seed, alter
        self.position = (0, 0)  # epoch, batch
        self._epoch: tuple[int, list[np.ndarray]] | None = None

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        epoch, number = self.position
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._sequences.epoch(epoch, self._tokens, self._seed))
        index = self._epoch[1][number]
        self.position = (epoch, number + 1) if number + 1 < len(self._epoch[1]) else (epoch + 1, 0)
        batch = self._sequences.batch(index)
        return batch if self._alter is None else self._alter(batch, np.random.default_rng((self._seed, epoch, number)))

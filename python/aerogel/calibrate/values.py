"""Values over all calibration texts, computed block after block of texts when somebody reads them.

Texts may be many, so a value is held only if making it again would cost much: sums and what attention gives, which are read
often and have as many columns as the embeddings, and what activations give if that is no larger than the model. It is kept
from when it is first read until nobody refers to it any more. Everything else is made again for every reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

#: float32 [rows, width] of every stream.
Streams = list[np.ndarray]

#: Tokens of a block: enough for fast matrix products, few enough that the widest values of a block are small.
TOKENS = 2048


@dataclass(frozen=True)
class Block:
    """Whole sequences, end to end.

    Attributes:
        tokens: int32 [T].
        offsets: int64 [S+1]: the tokens of sequence s are offsets[s] to offsets[s+1].
    """

    tokens: np.ndarray
    offsets: np.ndarray


def blocks_of(sequences: Sequence[np.ndarray], tokens: int | None = None) -> list[Block]:
    """All sequences in their order, as many in a block as have no more than `tokens` tokens (TOKENS), at least one."""
    most = TOKENS if tokens is None else tokens
    blocks: list[Block] = []
    waiting: list[np.ndarray] = []

    def close() -> None:
        offsets = np.concatenate(([0], np.cumsum([len(sequence) for sequence in waiting]))).astype(np.int64)
        blocks.append(Block(np.concatenate(waiting), offsets))
        waiting.clear()

    for sequence in sequences:
        if waiting and sum(map(len, waiting)) + len(sequence) > most:
            close()
        waiting.append(np.asarray(sequence, np.int32))
    if waiting:
        close()
    return blocks


class Value:
    """float32 [rows, width] for each stream, a row for every token or for every sequence.

    Args:
        texts: the blocks.
        make: (a block, what each of `inputs` has for it) -> what this has for it.
        inputs: the values that it is made of.
        keep: whether it is kept.
        pooled: there is a row for every sequence, not for every token.
    """

    def __init__(
        self,
        texts: Sequence[Block],
        make: Callable[..., Streams],
        inputs: Sequence[Value],
        keep: bool,
        pooled: bool = False,
    ) -> None:
        self.pooled: bool = pooled or any(value.pooled for value in inputs)
        self.blocks = len(texts)
        self._texts = texts
        self._make: Callable[..., Streams] | None = make
        self._inputs = inputs
        self._keep = keep
        self._kept: dict[int, Streams] = {}
        self._rows: Streams = []  # where it is kept: one large array a stream, which the system gets back once it is dropped

    def block(self, i: int) -> Streams:
        """The rows of block i; not to be written to."""
        if i in self._kept:
            return self._kept[i]
        assert self._make is not None
        streams = self._make(self._texts[i], *(value.block(i) for value in self._inputs))
        if not self._keep:
            return streams
        self._kept[i] = self._copied(i, streams)
        if len(self._kept) == self.blocks:  # what it was made of is not needed any more
            self._make, self._inputs = None, ()
        return self._kept[i]

    def _copied(self, i: int, streams: Streams) -> Streams:
        """In the large arrays; what was one array is one again."""
        lengths = [len(text.offsets) - 1 if self.pooled else len(text.tokens) for text in self._texts]
        first = sum(lengths[:i])
        views: Streams = []
        for stream, rows in enumerate(streams):
            if stream and rows is streams[0]:
                views.append(views[0])
                continue
            if stream == len(self._rows):
                self._rows.append(np.empty((sum(lengths), rows.shape[1]), np.float32))
            view = self._rows[stream][first : first + len(rows)]
            view[:] = rows
            views.append(view)
        return views

    def whole(self) -> Streams:
        """All rows of each stream."""
        streams = zip(*(self.block(i) for i in range(self.blocks)), strict=True)
        return [np.concatenate(parts) for parts in streams]

"""Values over all calibration texts, computed block after block of texts when somebody reads them.

Texts may be many, so a value is held only if making it again would cost much: sums and what attention gives, which are read
often and have as many columns as the embeddings, and what activations give if that is no larger than the model. It is kept
from when it is first read until nobody refers to it any more. Everything else is made again for every reader.
"""

from __future__ import annotations

import threading
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
    """float32 [rows, width] for each stream, a row for every token or for every sequence. Blocks may be read by several
    threads at a time, no block by two.

    Args:
        texts: the blocks.
        make: (block's number, stream) -> what this has for it.
        streams: how many streams there are.
        differs: whether they are not one and the same.
        keep: whether it is kept.
        pooled: there is a row for every sequence, not for every token.
    """

    def __init__(
        self,
        texts: Sequence[Block],
        make: Callable[[int, int], np.ndarray],
        streams: int,
        differs: bool,
        keep: bool,
        pooled: bool = False,
    ) -> None:
        self.pooled = pooled
        self.blocks = len(texts)
        self.differs = differs
        self._streams = streams
        self._texts = texts
        self._make: Callable[[int, int], np.ndarray] | None = make
        self._keep = keep
        self._kept: dict[tuple[int, int], np.ndarray] = {}
        # One large array a stream, which the system gets back once it is dropped.
        self._whole: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    @property
    def begun(self) -> bool:
        """Whether any of it is kept."""
        return bool(self._kept)

    def rows(self, i: int, stream: int) -> np.ndarray:
        """Those of block i; not to be written to."""
        if not self.differs:
            stream = 0
        found = self._kept.get((i, stream))
        if found is not None:
            return found
        assert self._make is not None
        made = self._make(i, stream)
        return self._copied(i, stream, made) if self._keep else made

    def block(self, i: int) -> Streams:
        """The rows of block i of each stream, one and the same array while they do not differ."""
        first = self.rows(i, 0)
        return [first] + [self.rows(i, s) if self.differs else first for s in range(1, self._streams)]

    def _copied(self, i: int, stream: int, rows: np.ndarray) -> np.ndarray:
        """In the large array."""
        lengths = [len(text.offsets) - 1 if self.pooled else len(text.tokens) for text in self._texts]
        first = sum(lengths[:i])
        with self._lock:
            if stream not in self._whole:
                self._whole[stream] = np.empty((sum(lengths), rows.shape[1]), np.float32)
        view = self._whole[stream][first : first + len(rows)]
        view[:] = rows
        with self._lock:
            self._kept[i, stream] = view
            if len(self._kept) == self.blocks * (self._streams if self.differs else 1):
                self._make = None  # and with it what it was made of
        return view

    def whole(self) -> Streams:
        """All rows of each stream."""
        streams = zip(*(self.block(i) for i in range(self.blocks)), strict=True)
        return [np.concatenate(parts) for parts in streams]

"""The order in which the hidden units of feed-forward blocks are packed: by their nonzeros, where a kernel gains by it.

A kernel with output rows on its lanes takes as long for a group of rows as for the longest of them, and sorts rows only
within blocks. Pruned rows of an FFN are very uneven (8 to 206 nonzeros in a layer of MiniLM), and nobody but the linear
behind them reads the units, so they may stand in any order: biases go along, and the columns of what reads them. This is
exact: activations and gates are computed unit by unit, and neither the largest magnitude of a token nor int32 sums depend
on an order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aerogel._core import linear_formats
from aerogel.architectures import Group, Role, Tensor
from aerogel.checkpoint.blocks import Blocks
from aerogel.checkpoint.weight import Weight
from aerogel.engine.sources import weight_source
from aerogel.tuning import WORTH_MEASURING, pattern_name

#: Formats that pack rows of a like number of nonzeros together, on the instruction set where they gain by it; on AVX2
#: gathered_q8 was measured, and took 2 % less to 3 % more bytes.
_GAIN = ("gathered_q8", "gathered_rows_q8")
_WHERE = "avx512vnni"
#: Rows that stay neighbours, as they share a mask, by the name of their pattern, see `pattern_name`.
_SETS = {"unstructured": 1, "empty": 1, "2x1": 2, "4x1": 4}
#: Units that stay together: the rows that the kernels sort among themselves.
RUN = 64


def sorting_gains(format: str) -> bool:
    """Whether sorted rows make a kernel of this CPU faster, where layers are packed in `format` ("auto": in any)."""
    isas = {row["format"]: row["isa"] for row in linear_formats()}
    return any(format in ("auto", gains) and isas.get(gains) == _WHERE for gains in _GAIN)


def order_of(nonzeros: NDArray[np.int64], rows: int = 1) -> NDArray[np.int64]:
    """The units, in sets of so many, by falling number of nonzeros: in runs of `RUN`, dealt so that every four runs have one
    of each quarter.

    Dealt, because a unit with few inputs tends to have few readers: sorted, the columns of what reads them would grow ever
    emptier, and its windows with them (MiniLM at 80 and 90 %: .9 to 2.5 % more vectors than unsorted, dealt .7 to 1.6).
    """
    order = np.argsort(-nonzeros.reshape(-1, rows).sum(axis=1), kind="stable")
    order = (order[:, None] * rows + np.arange(rows)).ravel()
    runs = order.size // RUN
    step = -(-runs // 4)
    dealt = sorted(range(runs), key=lambda run: (run % step, run))
    whole = order[: runs * RUN].reshape(runs, RUN)[dealt].ravel()
    return np.concatenate([whole, order[runs * RUN :]])


class HiddenOrder:
    """The orders of a model's hidden units, found when they are asked for. Threads may share it.

    Args:
        groups: of the architecture; those of the kind "ffn" are looked at.
        tensors: of the architecture.
        read: a matrix as it is stored, by its name.
    """

    def __init__(
        self, groups: Sequence[Group], tensors: Mapping[str, Tensor], read: Callable[[str], Weight | Blocks]
    ) -> None:
        self._blocks: dict[str, _Block] = {}
        for group in groups:
            block = _block_of(group, tensors, read)
            if block is not None:
                self._blocks.update((part.tensor, block) for part in group.parts)

    def weight(self, name: str, found: Weight) -> Weight:
        """The matrix, as it is stored, with its rows, or its columns, in the order of the hidden units."""
        block = self._blocks.get(name)
        order = None if block is None else block.order(name, found)
        if block is None or order is None:
            return found
        return found.reordered(int(name in block.readers), order)

    def vector(self, name: str, found: NDArray[np.float32]) -> NDArray[np.float32]:
        """The bias in the order of the hidden units."""
        block = self._blocks.get(name)
        order = None if block is None else block.order()
        return found if order is None else np.ascontiguousarray(found[order])


class _Block:
    """One feed-forward block: what writes its hidden units, and what reads them."""

    def __init__(self, writers: Sequence[str], readers: Sequence[str], read: Callable[[str], Weight | Blocks]) -> None:
        self.writers, self.readers = writers, readers
        self._read = read
        self._lock = threading.Lock()
        self._found: list[NDArray[np.int64] | None] = []

    def order(self, name: str | None = None, known: Weight | None = None) -> NDArray[np.int64] | None:
        """The units in their order; None: in the one that they have. `known` is the matrix `name`, if it has been read."""
        with self._lock:
            if not self._found:
                self._found.append(self._order(name, known))
            return self._found[0]

    def _order(self, name: str | None, known: Weight | None) -> NDArray[np.int64] | None:
        nonzeros: NDArray[np.int64] | None = None
        rows = 1
        # The known one first: where it says no, nothing is read twice.
        for each in sorted((*self.writers, *self.readers), key=lambda other: other != name):
            found = known if each == name and known is not None else self._read(each)
            writes = each in self.writers
            if isinstance(found, Blocks) or not _sparse(found) or (found.group and not writes):
                return None  # also columns that share scales or multipliers
            source, _ = weight_source([(each, found)])
            pattern = pattern_name(source.pattern(), source.n, source.k)
            if source.sparsity < WORTH_MEASURING or pattern not in _SETS:  # columns of patterns stay where they are
                return None
            if writes:
                counts, rows = _nonzeros(found), max(rows, _SETS[pattern])
                nonzeros = counts if nonzeros is None else nonzeros + counts
        return None if nonzeros is None or nonzeros.size % rows else order_of(nonzeros, rows)


def _block_of(group: Group, tensors: Mapping[str, Tensor], read: Callable[[str], Weight | Blocks]) -> _Block | None:
    """The block whose units a group is, if each is one row of linears, with their biases, and one column of others."""
    if group.kind != "ffn" or group.sections != 1 or any(part.size != 1 for part in group.parts):
        return None
    matrices = [part for part in group.parts if len(tensors[part.tensor].shape) == 2]
    writers = [part.tensor for part in matrices if part.axis == 0]
    readers = [part.tensor for part in matrices if part.axis == 1]
    biases = {name.removesuffix(".weight") + ".bias" for name in writers}
    rest = {part.tensor for part in group.parts} - {*writers, *readers}
    linears = all(tensors[name].role is Role.LINEAR for name in (*writers, *readers))
    # Else there is a norm, for one, whose sums depend on the order.
    return _Block(writers, readers, read) if linears and writers and readers and rest <= biases else None


def _sparse(found: Weight) -> bool:
    """Whether int8 kernels run it, whose sums are exact, and it may have zeros; a dense one is told cheaply."""
    return found.numbers == "int8" and (found.mask is not None or found.values.dtype == np.int8)


def _nonzeros(found: Weight) -> NDArray[np.int64]:
    """Of each row."""
    if found.mask is None:
        return np.asarray(np.count_nonzero(found.values, axis=1), np.int64)
    return np.asarray(np.unpackbits(found.mask, axis=1).sum(axis=1), np.int64)

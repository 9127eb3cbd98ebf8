"""Token ids as callers give them, as the engine takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aerogel._util.checks import array, items
from aerogel.errors import DataError, ShapeError


def ragged(
    token_ids: Sequence[int] | Sequence[Sequence[int]] | np.ndarray, offsets: Sequence[int] | np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """int32 [T] and int64 [S+1] out of what `Model.forward` accepts. The engine checks ranges and empty sequences.

    Raises:
        DataError: something else than integers.
        ShapeError: there are none.
    """
    if offsets is None and not isinstance(token_ids, np.ndarray):
        rows = items("token_ids", token_ids)
        if rows and not isinstance(rows[0], (int, np.integer)):
            sequences = [integers("token_ids", sequence) for sequence in rows]
            lengths = [len(sequence) for sequence in sequences]
            return np.concatenate(sequences).astype(np.int32), np.concatenate(([0], np.cumsum(lengths))).astype(
                np.int64
            )
        token_ids = rows
    ids = integers("token_ids", token_ids)
    if not len(ids):
        raise ShapeError("token_ids: expected at least one token, got none")
    ends = np.array([0, len(ids)]) if offsets is None else integers("offsets", offsets)
    return ids.astype(np.int32), ends.astype(np.int64)


def is_split(ids: np.ndarray, ends: np.ndarray) -> bool:
    """Whether offsets cut the tokens into sequences of at least one each; the engine says what is wrong where not."""
    return len(ends) > 1 and ends[0] == 0 and ends[-1] == len(ids) and bool((np.diff(ends) > 0).all())


def integers(name: str, values: Any) -> np.ndarray:
    """Token ids or offsets: a row of integers that int32 holds, none below 0; it may be empty."""
    found = array(name, values, 1)
    if not len(found):
        return found.astype(np.int64)
    if found.dtype.kind not in "iu":
        raise DataError(f"{name}: expected integers, got {found.dtype}")
    if found.min() < 0 or found.max() > np.iinfo(np.int32).max:
        raise DataError(
            f"{name}: expected none below 0 or above {np.iinfo(np.int32).max}, got {found.min()} to {found.max()}"
        )
    return found

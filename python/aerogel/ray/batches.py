"""Columns of the batches that Ray Data hands to a function: dicts of NumPy arrays, Arrow tables, Pandas frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from aerogel.errors import DataError


def _is_of(batch: Any, library: str, name: str) -> bool:
    """Whether it is a class of a library that need not be there."""
    return any(c.__name__ == name and c.__module__.partition(".")[0] == library for c in type(batch).__mro__)


def texts(batch: Any, column: str) -> list[str]:
    """A column of a batch as texts.

    Raises:
        DataError: it is no batch, lacks the column, or a row has no text.
    """
    if _is_of(batch, "pyarrow", "Table"):
        names = batch.column_names
    elif _is_of(batch, "pandas", "DataFrame") or isinstance(batch, Mapping):
        names = list(batch)
    else:
        raise DataError(f"batch: expected a dict of arrays, an Arrow table or a data frame, got {type(batch).__name__}")
    if column not in names:
        raise DataError(f"column {column!r}: the batch has {', '.join(map(str, names)):.200}")
    values = batch[column]
    found = values.to_pylist() if hasattr(values, "to_pylist") else list(values)
    for number, value in enumerate(found):
        if not isinstance(value, str):
            raise DataError(f"column {column!r}: expected texts, got {type(value).__name__} in row {number} of a batch")
    return [str(value) for value in found]


def with_columns(batch: Any, added: Mapping[str, Any]) -> Any:
    """The batch with more columns, of the same kind; columns that have such a name are replaced.

    Args:
        batch: as `texts` takes it; it is not changed.
        added: arrays [n] or [n, width], or lists of texts.
    """
    if _is_of(batch, "pyarrow", "Table"):
        for name, values in added.items():
            place = batch.column_names.index(name) if name in batch.column_names else -1
            column = _arrow(values)
            batch = batch.append_column(name, column) if place < 0 else batch.set_column(place, name, column)
        return batch
    if _is_of(batch, "pandas", "DataFrame"):
        return batch.assign(**{name: list(values) for name, values in added.items()})
    return {**batch, **{name: _numpy(values) for name, values in added.items()}}


def _numpy(values: Any) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else np.array(values, dtype=object)


def _arrow(values: Any) -> Any:
    import pyarrow as pa

    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])
    return pa.array(values if isinstance(values, np.ndarray) else list(values))

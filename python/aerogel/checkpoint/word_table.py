"""A table of embeddings as sentence-transformers' StaticEmbedding reads it: its own files, and those of Model2Vec."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aerogel.architectures import TABLE
from aerogel.checkpoint.tensor_files import TensorFiles
from aerogel.checkpoint.weight import check_finite
from aerogel.errors import CheckpointError, MissingTensorsError, ShapeError

#: Model2Vec's table; where it is smaller than the vocabulary, the row of each token; and a factor of each token.
_ROWS, _ROW_OF, _FACTORS = "embeddings", "mapping", "weights"


def table_shape(files: TensorFiles, where: object) -> tuple[int, int]:
    """Tokens and width of the table.

    Raises:
        MissingTensorsError: there is none.
        ShapeError: it is no matrix.
    """
    name = TABLE if TABLE in files else _ROWS
    if name not in files:
        raise MissingTensorsError(where, [TABLE])
    shape = files.entry(name).shape
    if len(shape) != 2:
        raise ShapeError(f"{files.where(name)}: expected a matrix, got {list(shape)}")
    rows = files.entry(_ROW_OF).shape[0] if name == _ROWS and _ROW_OF in files else shape[0]
    return rows, shape[1]


def take_table(stored: dict[str, str], files: TensorFiles) -> dict[str, NDArray[np.float32]]:
    """Renames Model2Vec's table in `stored`, or takes it out and returns it, by its name here, where it has to be computed.

    Raises:
        CheckpointError: a token has no row.
        ShapeError: there are not as many factors as tokens.
        DataError: a number is not finite.
    """
    if TABLE in stored or _ROWS not in stored:
        return {}
    rows = stored.pop(_ROWS)
    places, factors = stored.pop(_ROW_OF, None), stored.pop(_FACTORS, None)
    if places is None and factors is None:
        stored[TABLE] = rows
        return {}
    table = files.float32(rows)
    if places is not None:
        row_of = files.raw(places)
        if row_of.dtype.kind not in "iu" or row_of.ndim != 1 or not ((row_of >= 0) & (row_of < len(table))).all():
            raise CheckpointError(f"{files.where(places)}: expected the row of each token, below {len(table)}")
        table = table[row_of]
    if factors is not None:
        factor = files.float32(factors)
        if factor.shape != table.shape[:1]:
            raise ShapeError(f"{files.where(factors)}: expected [{len(table)}], got {list(factor.shape)}")
        table = table * factor[:, None]
    check_finite(files.where(rows), table)
    return {TABLE: table}

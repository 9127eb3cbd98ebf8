"""What a worker does: a model, loaded once, and parts that it reads, embeds and writes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from aerogel._util.files import writing
from aerogel.engine.model import load
from aerogel.errors import CheckpointError, DataError
from aerogel.ray import sources
from aerogel.ray.parts import Part, Task, fingerprint
from aerogel.ray.sources import Source

#: What an embedding may be kept as.
PRECISIONS = ("float32", "float16", "binary", "ubinary")


class PartWriter:
    """Embeds parts of a dataset.

    Args:
        task: what is made of the texts.
        schema: of the columns that are read, a pyarrow.Schema.
        folder: where the parts are written.
        threads: of the model.

    Raises:
        CheckpointError: the model is another one than that of the run.
    """

    def __init__(self, task: Task, schema: Any, folder: Path, threads: int) -> None:
        found = fingerprint(task.model)
        if found != task.fingerprint:
            raise CheckpointError(f"{task.model}: expected the model of this run, {task.fingerprint}, got {found}")
        self._task, self._schema, self._folder = task, schema, folder
        self._model = load(task.model, threads, quant=task.quant)

    def write(self, source: Source, part: Part) -> float:
        """Writes a part, in one step; what had its name is replaced. Returns the seconds that it took."""
        import pyarrow.parquet as pq

        started = time.perf_counter()
        table = sources.read(source, self._schema, part.row, part.rows, part.begin, part.end)
        texts = sources.texts(source, table, self._task.column, part.row)
        result = table.select(list(self._task.keep)).append_column(self._task.output, vectors(self._embed(texts)))
        with writing(self._folder / part.name) as out:
            pq.write_table(result, out, compression="zstd", use_dictionary=False)
        return time.perf_counter() - started

    def _embed(self, texts: list[str]) -> np.ndarray:
        task = self._task
        precision = "float32" if task.precision == "float16" else task.precision
        rows: np.ndarray = self._model.encode_document(
            texts,
            prompt=task.prompt,
            prompt_name=task.prompt_name,
            truncate_dim=task.truncate_dim,
            precision=precision,
        )
        return rows.astype(np.float16) if task.precision == "float16" else rows


def vectors(rows: np.ndarray) -> Any:
    """An array [n, width] as a pyarrow array of lists of `width` numbers."""
    import pyarrow as pa

    if rows.ndim != 2 or not rows.shape[1]:
        raise DataError(f"vectors: expected [n, width], got {list(rows.shape)}")
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows.shape[1])

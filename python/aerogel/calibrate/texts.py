"""Calibration texts: files in, token sequences out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerogel._util.text import decoded
from aerogel.errors import DataError

if TYPE_CHECKING:
    from aerogel.checkpoint.tokenizer import Tokenizer

#: File name endings that are read as tables; every cell that is not a number is a text.
TABLES = {".csv": ",", ".tsv": "\t"}
#: Texts that are tokenized at once.
BATCH = 1024


def read_texts(path: Path) -> list[str]:
    """The texts of a file: the lines of a text, the cells of a .csv or .tsv that are not numbers, the strings of a .jsonl.

    Raises:
        DataError: the file has no text, or is not UTF-8 or not JSON where it should be.
        OSError: it cannot be read.
    """
    try:
        texts = [text for text in map(str.strip, _pieces(path)) if text]
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected UTF-8 text, got byte {error.object[error.start]:#x} at {error.start}"
        ) from error
    except (csv.Error, json.JSONDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    if not texts:
        raise DataError(f"{path}: expected calibration texts, found none")
    return texts


def _pieces(path: Path) -> Iterator[str]:
    with io.StringIO(decoded(path.read_bytes()), newline="") as file:
        if path.suffix in TABLES:
            rows = csv.reader(
                file,
                delimiter=TABLES[path.suffix],
                quoting=csv.QUOTE_MINIMAL if path.suffix == ".csv" else csv.QUOTE_NONE,
            )
            for row in rows:
                yield from (cell for cell in row if not _is_number(cell))
        elif path.suffix == ".jsonl":
            for line in file:
                if line.strip():
                    value = json.loads(line)
                    cells = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
                    yield from (cell for cell in cells if isinstance(cell, str))
        else:
            yield from file


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def sequences(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    tokens: int,
    total: int,
    running: bool,
    samples: int | None = None,
    seed: int = 0,
) -> list[list[int]]:
    """Token sequences of at most `tokens` tokens each, sampled at random until there are `total`, in the order of the texts.

    Args:
        texts: what `read_texts` gives.
        tokenizer: the model's.
        tokens: the most tokens of one sequence.
        total: the most tokens of all; one sequence is always taken.
        running: True for language models: the texts are one running text, cut into windows of exactly `tokens` tokens (or a
            single shorter one). False: each text is a sequence of its own, cut at `tokens`.
        samples: the most sequences; None: any number.
        seed: of the choice.

    Raises:
        DataError: there is no token at all.
    """
    if running:
        ids = [i for piece in tokenizer.encode(["\n".join(texts)]) for i in piece]
        found = [ids[i : i + tokens] for i in range(0, len(ids) - tokens + 1, tokens)] or [ids]
        order = np.random.default_rng(seed).permutation(len(found)).tolist()
        return _within([(i, found[i]) for i in order], total, samples)
    order = np.random.default_rng(seed).permutation(len(texts)).tolist()
    chosen: list[tuple[int, list[int]]] = []
    for begin in range(0, len(order), BATCH):  # no more is tokenized than is needed
        part = order[begin : begin + BATCH]
        chosen += zip(part, tokenizer.encode([texts[i] for i in part], tokens), strict=True)
        if sum(len(ids) for _, ids in chosen) >= total or (samples is not None and len(chosen) >= samples):
            break
    return _within(chosen, total, samples)


def _within(found: Sequence[tuple[int, list[int]]], total: int, samples: int | None) -> list[list[int]]:
    """The first sequences that keep the limits, by their numbers."""
    kept: list[tuple[int, list[int]]] = []
    taken = 0
    for number, ids in found:
        if len(kept) == samples:
            break
        if ids and (not kept or taken + len(ids) <= total):
            kept.append((number, ids))
            taken += len(ids)
    if not kept:
        raise DataError("calibration: the texts have no tokens")
    return [ids for _, ids in sorted(kept)]

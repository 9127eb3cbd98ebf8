"""Calibration texts: files in, token sequences out."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerogel.errors import DataError

if TYPE_CHECKING:
    from aerogel.checkpoint.tokenizer import Tokenizer

#: File name endings that are read as tables; every cell that is not a number is a text.
TABLES = {".csv": ",", ".tsv": "\t"}


def read_texts(path: Path) -> list[str]:
    """The texts of a file: the lines of a text, the cells of a .csv or .tsv that are not numbers, the strings of a .jsonl.

    Raises:
        DataError: the file has no text, or is not UTF-8 or not JSON where it should be.
        OSError: it cannot be read.
    """
    try:
        texts = [text for text in map(str.strip, _pieces(path)) if text]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text, got byte {error.object[error.start]:#x} at {error.start}") from error
    except (csv.Error, json.JSONDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    if not texts:
        raise DataError(f"{path}: expected calibration texts, found none")
    return texts


def _pieces(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix in TABLES:
            quoting = csv.QUOTE_MINIMAL if path.suffix == ".csv" else csv.QUOTE_NONE
            for row in csv.reader(file, delimiter=TABLES[path.suffix], quoting=quoting):
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
    texts: Sequence[str], tokenizer: Tokenizer, samples: int, tokens: int, running: bool, seed: int = 0
) -> list[list[int]]:
    """At most `samples` token sequences of at most `tokens` tokens each.

    Args:
        texts: what `read_texts` gives.
        tokenizer: the model's.
        samples: how many sequences.
        tokens: the most tokens of one.
        running: True for language models: the texts are one running text, cut into windows of exactly `tokens` tokens (or a
            single shorter one). False: each text is a sequence of its own, cut at `tokens`.
        seed: of the choice where there are more than `samples`.

    Raises:
        DataError: there is no token at all.
    """
    if running:
        ids = [i for piece in tokenizer.encode(["\n".join(texts)]) for i in piece]
        whole = len(ids) // tokens
        found = [ids[i * tokens : (i + 1) * tokens] for i in range(whole)] or [ids]
    else:
        chosen = _choose(len(texts), 4 * samples, seed)  # tokenize no more than may be needed: some texts may be empty
        found = tokenizer.encode([texts[i] for i in chosen], tokens)
    found = [sequence for sequence in found if sequence]
    if not found:
        raise DataError("calibration: the texts have no tokens")
    return [found[i] for i in _choose(len(found), samples, seed)]


def _choose(count: int, wanted: int, seed: int) -> list[int]:
    if count <= wanted:
        return list(range(count))
    return sorted(np.random.default_rng(seed).choice(count, wanted, replace=False).tolist())

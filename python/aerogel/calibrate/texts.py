"""Calibration texts: files in, token sequences out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerogel._util.checks import array, flag, items, shown, whole_number
from aerogel._util.checks import texts as check_texts
from aerogel._util.reading import read_bytes
from aerogel._util.text import not_utf8
from aerogel.errors import DataError

if TYPE_CHECKING:
    from aerogel.checkpoint.tokenizer import Tokenizer

#: File name endings that are read as tables; every cell that is not a number is a text.
TABLES = (".csv", ".tsv")
#: Texts that are tokenized at once.
BATCH = 1024


def read_texts(path: Path) -> list[str]:
    """The texts of a file: the lines of a text, the cells of a .csv or .tsv that are not numbers, the strings of a .jsonl.

    Raises:
        DataError: the file cannot be read, has no text, or is not UTF-8 or not JSON where it should be.
    """
    data = read_bytes("texts", path)
    path = Path(path)
    try:
        texts = [text for text in map(str.strip, _pieces(path.suffix.lower(), data.decode("utf-8-sig"))) if text]
    except UnicodeDecodeError as error:
        raise DataError(not_utf8(path, error)) from error
    except (csv.Error, ValueError, RecursionError) as error:
        raise DataError(f"{path}: {error}") from error
    if not texts:
        raise DataError(f"{path}: expected calibration texts, found none")
    return texts


def _pieces(suffix: str, data: str) -> Iterator[str]:
    lines = io.StringIO(data, newline="")  # where csv says that a line ends
    if suffix in TABLES:
        # Strict: a quote that never closes would make one text of all that follows.
        rows = (
            csv.reader(lines, delimiter=",", strict=True)
            if suffix == ".csv"
            else csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        )
        for row in rows:
            yield from (cell for cell in row if not _is_number(cell))
    elif suffix == ".jsonl":
        for line in io.StringIO(data, newline=None):
            if line.strip():
                value = json.loads(line)
                cells = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
                yield from (_unicode(cell) for cell in cells if isinstance(cell, str))
    else:
        yield from io.StringIO(data, newline=None)


def _unicode(text: str) -> str:
    """JSON can spell half a character, which is no text."""
    text.encode("utf-8")
    return text


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def token_sequences(sequences: Sequence[Sequence[int]], positions: int) -> list[np.ndarray]:
    """Sequences of token ids, each int32 [tokens], as a model with so many positions takes them.

    Raises:
        DataError: there is none, or one is empty, too long, or no list of token ids.
    """
    found = [array("calibration: sequence", each, 1) for each in items("calibration: sequences", sequences)]
    lengths = [len(sequence) for sequence in found]
    if not lengths or min(lengths) < 1 or max(lengths) > positions:
        raise DataError(
            f"calibration: expected sequences of 1 to {positions} tokens, got "
            + (f"{min(lengths)} to {max(lengths)}" if lengths else "none")
        )
    for ids in found:
        if ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= 2**31:
            raise DataError(f"calibration: expected token ids, got {ids.dtype} from {ids.min()} to {ids.max()}")
    return [ids.astype(np.int32) for ids in found]


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
    texts = check_texts("texts", texts)
    if isinstance(tokenizer, (str, bytes)) or not callable(getattr(tokenizer, "encode", None)):
        raise DataError(f"tokenizer: expected a model's, got {shown(tokenizer)}")
    tokens, total = whole_number("tokens", tokens, 1), whole_number("total", total, 1)
    samples = None if samples is None else whole_number("samples", samples, 1)
    seed = whole_number("seed", seed, 0)
    if flag("running", running):
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

"""Cuts long texts where sentences and paragraphs end: a model that reads one text at a time would see no more than the
beginning of each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

#: Characters of one piece after the other, at least: sentences, paragraphs and what is between.
SIZES = (1, 600, 1, 120, 300)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")


def pieces(text: str, words: float = math.inf) -> Iterator[str]:
    """Whole lines or sentences, as many together as SIZES say in turn, with at most so many words where one has not more."""
    waiting: list[str] = []
    number = counted = 0
    joint = " "
    for line in text.split("\n"):
        prose = len(line) > 200
        for part in _SENTENCE_END.split(line) if prose else [line]:
            count = len(part.split())
            if waiting and counted + count > words:
                yield joint.join(waiting).strip()
                waiting, counted, number = [], 0, number + 1
            waiting.append(part)
            counted, joint = counted + count, " " if prose else "\n"
            if sum(map(len, waiting)) >= SIZES[number % len(SIZES)]:
                yield joint.join(waiting).strip()
                waiting, counted, number = [], 0, number + 1
    if waiting:
        yield " ".join(waiting).strip()


def short(texts: Iterable[str], words: int) -> Iterator[str]:
    """Texts of at most so many words: as they are, or in pieces; a sentence that is longer, or a text in which none ends, is
    cut after so many words."""
    for text in texts:
        if len(text.split()) <= words:
            yield text
            continue
        for piece in pieces(text, words):
            split = piece.split()
            if len(split) <= words:
                yield from [piece] if split else []
                continue
            for begin in range(0, len(split), words):
                yield " ".join(split[begin : begin + words])

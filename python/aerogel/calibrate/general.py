"""The general calibration mix: texts of many kinds that the package carries, see docs/calibration.md.

It is a file of documents, each with its domain. An encoder reads pieces of them, from a line to a few paragraphs; a language
model reads whole documents, end to end.
"""

from __future__ import annotations

import functools
import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aerogel.calibrate.texts import sequences

if TYPE_CHECKING:
    from aerogel.checkpoint.tokenizer import Tokenizer

FILE = Path(__file__).parent / "general.tsv.gz"
#: Characters of one piece after the other, about: sentences, paragraphs and what is between.
SIZES = (1, 600, 1, 120, 300)
_ESCAPE = re.compile(r"\\(.)")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")


@functools.cache
def general_documents() -> dict[str, tuple[str, ...]]:
    """The documents of every domain of the mix."""
    found: dict[str, list[str]] = {}
    for line in gzip.decompress(FILE.read_bytes()).decode("utf-8").split("\n"):
        domain, tab, text = line.partition("\t")
        if tab:
            found.setdefault(domain, []).append(_ESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], text))
    return {domain: tuple(texts) for domain, texts in found.items()}


@functools.cache
def general_texts() -> dict[str, tuple[str, ...]]:
    """The mix in pieces for models that read one text at a time: of every domain."""
    return {
        domain: tuple(piece for text in texts for piece in _pieces(text)) for domain, texts in general_documents().items()
    }


def _pieces(text: str) -> Iterator[str]:
    """Whole lines or sentences, as many together as SIZES say in turn."""
    waiting: list[str] = []
    number = 0
    for line in text.split("\n"):
        prose = len(line) > 200
        for part in _SENTENCE_END.split(line) if prose else [line]:
            waiting.append(part)
            if sum(map(len, waiting)) >= SIZES[number % len(SIZES)]:
                yield (" " if prose else "\n").join(waiting).strip()
                waiting, number = [], number + 1
    if waiting:
        yield " ".join(waiting).strip()


def general_sequences(tokenizer: Tokenizer, tokens: int, total: int, running: bool, seed: int = 0) -> list[list[int]]:
    """Token sequences of the mix, about as many tokens of each domain; arguments as `aerogel.calibrate.sequences` has them."""
    domains = general_documents() if running else general_texts()
    found: list[list[int]] = []
    for number, texts in enumerate(domains.values()):
        share = total * (number + 1) // len(domains) - total * number // len(domains)
        found += sequences(texts, tokenizer, tokens, max(1, share), running, None, seed)
    return found

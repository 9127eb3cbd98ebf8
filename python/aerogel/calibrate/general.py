"""The general calibration mix: texts of many kinds that the package carries, see docs/calibration.md.

It is a file of documents, each with its domain. An encoder reads pieces of them, from a line to a few paragraphs; a language
model reads whole documents, end to end.
"""

from __future__ import annotations

import functools
import gzip
import random
import re
from collections.abc import Sequence
from pathlib import Path

from aerogel.calibrate.aside import split
from aerogel.calibrate.pieces import pieces

FILE = Path(__file__).parent / "general.tsv.gz"
#: What stands for the mix where names of files are expected, and for texts that a language model writes itself.
GENERAL, SELF = "general", "self"
_ESCAPE = re.compile(r"\\(.)")


@functools.cache
def general_documents(aside: bool = False) -> dict[str, tuple[str, ...]]:
    """The documents of every domain of the mix that are calibrated on; `aside`: the others, one in ten."""
    found = {}
    for domain, texts in _all_documents().items():
        fitted, kept = split(texts, least=1)
        known = set(fitted)
        found[domain] = tuple(text for text in kept if text not in known) if aside else tuple(fitted)
    return found


@functools.cache
def _all_documents() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in gzip.decompress(FILE.read_bytes()).decode("utf-8").split("\n"):
        domain, tab, text = line.partition("\t")
        if tab:
            found.setdefault(domain, []).append(_ESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], text))
    return found


@functools.cache
def general_texts(aside: bool = False) -> dict[str, tuple[str, ...]]:
    """The documents of every domain in pieces, for models that read one text at a time; `aside` as above."""
    documents = general_documents(aside)
    return {domain: tuple(piece for text in texts for piece in pieces(text)) for domain, texts in documents.items()}


def with_general(texts: Sequence[str], share: float, seed: int = 0) -> list[str]:
    """Texts, and as many of the mix that they make up `share` of all characters, about as many of each domain.

    Where the mix has fewer, all of it: 1.7 million characters. A share of 1 is all of the mix and no other text.
    """
    domains = general_texts()
    wanted = sum(map(len, texts)) * share / (1 - share) / len(domains) if share < 1 else float("inf")
    found = list(texts) if share < 1 else []
    for number, texts_of in enumerate(domains.values()):
        order = list(range(len(texts_of)))
        random.Random(seed + number).shuffle(order)
        taken, chosen = 0, []
        for i in order:
            if taken >= wanted:
                break
            taken += len(texts_of[i])
            chosen.append(i)
        found += [texts_of[i] for i in sorted(chosen)]
    return found

"""The text that models are measured on."""

from __future__ import annotations

from importlib import resources

import numpy as np

from aerogel.checkpoint import Checkpoint
from aerogel.errors import TokenizerError


def sentences() -> dict[str, list[str]]:
    """The sentences that come with the package, by topic."""
    found: dict[str, list[str]] = {}
    topic = ""
    for line in (
        resources.files("aerogel.bench").joinpath("data/sentences.txt").read_text(encoding="utf-8").splitlines()
    ):
        if line.startswith("# "):
            topic = line[2:]
        elif line:
            found.setdefault(topic, []).append(line)
    return found


def text_ids(checkpoint: Checkpoint, vocab_size: int, sequences: int, tokens: int) -> np.ndarray:
    """int64 [sequences, tokens]: running text, each row from another place; random ids without a tokenizer."""
    try:
        tokenizer = checkpoint.tokenizer()
    except TokenizerError:
        return np.random.default_rng(0).integers(0, vocab_size, (sequences, tokens))
    lines = [line for group in sentences().values() for line in group]
    around = tokenizer.encode([""])[0]  # special tokens, if the model has some
    head, tail = around[: len(around) // 2], around[len(around) // 2 :]
    if len(around) + 1 > tokens:
        head = tail = []
    end = -len(tail) or None
    text = np.concatenate([np.asarray(ids[len(head) : end], np.int64) for ids in tokenizer.encode(lines)])
    rows = []
    for i in range(sequences):
        body = text[(29 * i + np.arange(tokens - len(head) - len(tail))) % len(text)]
        rows.append(np.concatenate([np.asarray(head, np.int64), body, np.asarray(tail, np.int64)]))
    return np.stack(rows)

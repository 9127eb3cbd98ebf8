"""Ordinary English for benchmarks: enough text to fill a batch and to calibrate static int8, with no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

# Written for this file; what matters is that it is natural language, since random ids have unnatural activations.
SENTENCES = """\
The ferry to the island leaves twice a day in summer, and once a week when the sea is rough.
My grandmother kept her recipes in a blue tin, written on the backs of old envelopes.
A new study suggests that people who walk to work report fewer headaches than those who drive.
How do I return a pair of shoes that I bought online last month?
The committee agreed to postpone its decision until the accounts for the third quarter are published.
Two dogs are chasing a red ball across the wet grass.
Water expands when it freezes, which is why a full bottle left in the cold may crack.
She tuned the violin, closed her eyes and began to play so softly that the room fell silent.
Which hotels near the station allow late check-in and have parking for a van?
The compiler rejected the program because a variable was used before it had been given a value.
Prices for wheat rose by nine percent after a dry spring in the southern provinces.
He apologised for the delay and promised that the replacement part would arrive on Thursday.
The old bridge was closed in 1974, and a wider one was built four hundred metres upstream.
A balanced diet, regular sleep and some daily exercise do more for most people than any supplement.
The telescope recorded a faint signal from a galaxy more than ten billion light years away.
Children under six travel free, but they must be accompanied by an adult at all times.
In the last minute of the match the goalkeeper came forward and scored with his head.
Please restart the router, wait for thirty seconds and then try to connect again.
The museum's collection of maps includes several that were drawn before the coast was fully explored.
It was raining so hard that we could hardly hear the band, though nobody wanted to leave.
The contract may be ended by either party with three months' notice in writing.
A woman is slicing onions in a small kitchen while a radio plays in the background.
Batteries lose capacity faster when they are kept full and warm for long periods.
The teacher asked the class to compare the two poems and to say which one they trusted more.
""".splitlines()


def _tokenizer(model: Path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def calibration_rows(model: Path, count: int = 96) -> list[np.ndarray]:
    """Token ids of nothing, of single words and short phrases, of sentences, and of runs up to about 128 tokens."""
    tokenizer = _tokenizer(model)
    # Very short inputs have the widest activation ranges: static int8 that never saw one fell to a cosine of 0.87.
    phrases = ["", *(" ".join(SENTENCES[i].split()[: 1 + i % 4]) for i in range(count // 6))]
    rows = [np.asarray(tokenizer.encode(phrase).ids, np.int32) for phrase in phrases]
    for i in range(count - len(phrases)):
        run = [SENTENCES[(i + j) % len(SENTENCES)] for j in range(1 + (i // len(SENTENCES)) * 2)]
        rows.append(np.asarray(tokenizer.encode(" ".join(run)).ids[:512], np.int32))
    return rows


def exact_batch(model: Path, sentences: int, tokens: int) -> list[np.ndarray]:
    """`sentences` different rows of exactly `tokens` ids of running text, special tokens included."""
    tokenizer = _tokenizer(model)
    text = np.asarray(tokenizer.encode(" ".join(SENTENCES), add_special_tokens=False).ids, np.int32)
    first, last = tokenizer.encode("").ids
    rows = []
    for i in range(sentences):
        start = i * 29
        body = text[(start + np.arange(tokens - 2)) % len(text)]
        rows.append(np.concatenate([[first], body, [last]]).astype(np.int32))
    return rows

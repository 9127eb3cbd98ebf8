"""Calibration without any text: what a language model writes itself, from random tokens on (LLM-QAT, arXiv 2305.17888)."""

from __future__ import annotations

import numpy as np

from aerogel.checkpoint import Checkpoint
from aerogel.engine.model import load

#: Of one text after the other: near what the model expects, as it would write, and far from it.
TEMPERATURES = (0.7, 1.0, 1.3)
#: Texts that are written together.
TOGETHER = 32


def own_sequences(
    checkpoint: Checkpoint, tokens: int, total: int, samples: int | None, seed: int, threads: int | None
) -> list[list[int]]:
    """Token sequences that the dense model samples, of at most `tokens` tokens each and about `total` together.

    Each begins with a random token, behind what the tokenizer puts at the start. Weights of a folder are run in int8.
    """
    if checkpoint.kind == "packed" or checkpoint.path.suffix == ".gguf":
        model = load(checkpoint.path, threads, format="dense")
    else:
        model = load(checkpoint.path, threads, format="dense", quant="int8")
    start = [i for piece in checkpoint.tokenizer().encode([""]) for i in piece]
    random = np.random.default_rng(seed)
    count = max(1, -(-total // tokens)) if samples is None else samples
    found: list[list[int]] = []
    for begin in range(0, count, TOGETHER):
        prompts = [[*start, int(random.integers(model.vocab_size))] for _ in range(min(TOGETHER, count - begin))]
        for group, temperature in enumerate(TEMPERATURES):
            part = prompts[group :: len(TEMPERATURES)]
            if part:
                written = model.complete(
                    part, max_new_tokens=tokens - len(part[0]), temperature=temperature, seed=seed + begin, stop_ids=()
                )
                found += [[*prompt, *one.token_ids] for prompt, one in zip(part, written, strict=True)]
    return found

"""Choosing the next token from logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aerogel._util.checks import number, whole_number


@dataclass(frozen=True)
class Sampling:
    """Choosing the next token: the likeliest at temperature 0, else one sampled from those that top_k and top_p allow.

    Attributes:
        temperature: divides the logits; 0 is greedy.
        top_k: only the k most likely tokens; None: all.
        top_p: only the most likely tokens whose probabilities sum to p; None: all.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        number("temperature", self.temperature, 0)
        if self.top_k is not None:
            whole_number("top_k", self.top_k, 1)
        if self.top_p is not None:
            number("top_p", self.top_p, 0, 1, above=True)

    def choose(self, logits: np.ndarray, random: np.random.Generator) -> int:
        """The next token out of logits float32 [V]; among equals the lowest id."""
        if self.temperature == 0:
            return int(logits.argmax())
        order = np.argsort(-logits, kind="stable")[: self.top_k]  # most likely first
        with np.errstate(over="ignore"):  # a temperature next to 0 leaves the likeliest only
            p = np.exp((logits[order].astype(np.float64) - float(logits[order[0]])) / self.temperature)
        p /= p.sum()
        if self.top_p is not None:
            kept = int(np.searchsorted(np.cumsum(p), self.top_p)) + 1  # the token that crosses top_p still counts
            p = p[:kept] / p[:kept].sum()
        return int(order[random.choice(len(p), p=p)])

"""Choosing the next token from logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aerogel.errors import AerogelError


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
        if not 0 <= self.temperature < float("inf"):
            raise AerogelError(f"temperature: expected a number that is not negative, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise AerogelError(f"top_k: expected at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise AerogelError(f"top_p: expected a number above 0 and up to 1, got {self.top_p}")

    def choose(self, logits: np.ndarray, random: np.random.Generator) -> int:
        """The next token out of logits float32 [V]; among equals the lowest id."""
        if self.temperature == 0:
            return int(logits.argmax())
        order = np.argsort(-logits, kind="stable")[: self.top_k]  # most likely first
        scaled = logits[order].astype(np.float64) / self.temperature
        p = np.exp(scaled - scaled[0])
        p /= p.sum()
        if self.top_p is not None:
            kept = int(np.searchsorted(np.cumsum(p), self.top_p)) + 1  # the token that crosses top_p still counts
            p = p[:kept] / p[:kept].sum()
        return int(order[random.choice(len(p), p=p)])

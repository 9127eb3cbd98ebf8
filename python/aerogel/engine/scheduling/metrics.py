"""What a scheduler tells about itself."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        seconds: how long it took.
        tokens: tokens that were run, by model.
        sequences: sequences that were run, by model: texts of encoders, texts being read or written.
        waiting: requests that were there and had nothing in the step.
    """

    seconds: float
    tokens: dict[str, int]
    sequences: dict[str, int]
    waiting: int


@dataclass(frozen=True)
class Finished:
    """One request that has ended.

    Attributes:
        model: its name.
        task: "sentence", "tokens", "sparse", "score" or "generate".
        outcome: "done", "failed", "cancelled" or "late" (its deadline has passed).
        texts: texts or pairs of it.
        tokens: tokens of its texts, or of its prompt.
        new_tokens: tokens that were written.
        queue_seconds: from when it came until the step in which it was first run, or until it ended without.
        seconds: from when it came until it ended.
        steps_waited: steps of others only that were run before its first one, the one it came in included.
        first_token_seconds: from when it came until its first new token; None: there is none.
    """

    model: str
    task: str
    outcome: str
    texts: int
    tokens: int
    new_tokens: int
    queue_seconds: float
    seconds: float
    steps_waited: int
    first_token_seconds: float | None = None


@dataclass
class Metrics:
    """Sums since the scheduler was made; read at any time.

    Attributes:
        accepted: requests that were let in.
        refused: requests that were not: overload, or a drain.
        ended: requests that have ended, by outcome (see `Finished`).
        steps: steps that were run.
        step_seconds: their time.
        tokens: tokens that were run, by model.
        new_tokens: tokens that were written, by model.
        queue_seconds: of all requests that have ended, summed.
        queued: requests that are there now.
        queued_tokens: tokens of theirs that have not been run: of texts and prompts.
        kv_bytes: bytes of keys and values that are kept free for them.
    """

    accepted: int = 0
    refused: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    step_seconds: float = 0.0
    tokens: dict[str, int] = field(default_factory=dict)
    new_tokens: dict[str, int] = field(default_factory=dict)
    queue_seconds: float = 0.0
    queued: int = 0
    queued_tokens: int = 0
    kv_bytes: int = 0

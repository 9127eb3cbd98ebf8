"""Where the time of a served model's forward pass goes, for the page's picture."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.serve.catalog import Entry
from aerogel.serve.service import Service

if TYPE_CHECKING:
    from aerogel.engine.model import Model

#: Tokens of the pass, and how often it is run.
TOKENS, REPEATS = 128, 8


class Anatomy:
    """Profiles of the models, each taken once."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._known: dict[str, dict[str, Any]] = {}
        self._one = asyncio.Lock()

    async def of(self, entry: Entry) -> dict[str, Any]:
        """The profile of a model; it is run when it is first asked for, between other requests' passes."""
        async with self._one:
            if entry.name not in self._known:
                model = await self._service.model(entry)
                self._known[entry.name] = await asyncio.to_thread(_profile, entry, model)
        return self._known[entry.name]


def _profile(entry: Entry, model: Model) -> dict[str, Any]:
    count = min(TOKENS, entry.max_tokens)
    ids = np.arange(count) % (model.vocab_size - 1) + 1
    runs = [model.profile(ids) for _ in range(REPEATS)]
    facts = {step["name"]: step for step in model.describe() if "forms" in step}
    steps = []
    for same in zip(*runs, strict=True):
        step: dict[str, Any] = {"op": same[0]["op"], "name": same[0]["name"]}
        step["ms"] = 1e3 * min(one["seconds"] for one in same)
        fact = facts.get(step["name"])
        if fact is not None and step["op"] == "linear":
            n, k = fact["shape"]
            step["shape"] = [n, k]
            step["zeros"] = 1 - fact["nonzeros"] / (n * k)
            step["formats"] = [form["format"] for form in fact["forms"]]
        steps.append(step)
    return {
        "model": entry.name,
        "tokens": count,
        "threads": model.threads,
        "quantization": model.quantization,
        "bytes": model.nbytes,
        "total_ms": sum(step["ms"] for step in steps),
        "steps": steps,
    }

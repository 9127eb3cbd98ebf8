"""The models that are served: their names, and what each can do, known before any is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aerogel.architectures import architecture_of, pooling_of
from aerogel.architectures.heads import label_names
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import AerogelError
from aerogel.serve.failures import Failure

#: What is asked of a model -> what it must give, and what a client reads whose model does not.
TASKS = {
    "embed": ("embedding", "model is not an embedding model"),
    "sparse": ("terms", "model is not an embedding model with SPLADE pooling"),
    "tokens": ("hidden", "model does not give embeddings of tokens"),
    "rank": ("rank", "model is not a re-ranker model"),
    "score": ("scores", "model is not a classifier model"),
    "generate": ("generate", "model is not a language model: it writes no text"),
}


@dataclass(frozen=True)
class Entry:
    """A model that is served.

    Attributes:
        name: how clients call it.
        path: where it is read from.
        gives: its outputs; also "rank" where it scores pairs by one number, and "generate" where it writes.
        labels: of a classifier.
        pooling: the modes, such as "mean"; None: it does not pool.
        max_tokens: of a text that is read at once.
    """

    name: str
    path: str
    gives: frozenset[str]
    labels: tuple[str, ...]
    pooling: str | None
    max_tokens: int

    @property
    def kind(self) -> str:
        """What it is mainly, in the words of text-embeddings-inference, or "generator"."""
        if "rank" in self.gives:
            return "reranker"
        if "scores" in self.gives:
            return "classifier"
        return "generator" if "generate" in self.gives else "embedding"


def entry_of(name: str, path: str, rerank: str | None = None) -> Entry:
    """What is known of a model before it is loaded.

    Raises:
        AerogelError: there is none, or it is not supported.
    """
    checkpoint = open_checkpoint(path, True, rerank)
    pooling = pooling_of(checkpoint)
    architecture = architecture_of(checkpoint, pooling)
    gives = set(architecture.outputs)
    if "scores" in gives and architecture.labels == 1:
        gives.add("rank")
    if architecture.generates and "scores" not in gives:
        gives.add("generate")
    labels = tuple(label_names(checkpoint.config)) if architecture.labels else ()
    limit = min(checkpoint.max_tokens or architecture.max_positions, architecture.max_positions)
    return Entry(name, path, frozenset(gives), labels, None if pooling is None else "+".join(pooling.modes), limit)


def short_name(path: str) -> str:
    """A model's name, unless it is given one: its id on the hub, or the last part of its path."""
    local = Path(path).expanduser()
    if not local.exists():
        return path
    return local.resolve().name.removesuffix(".gguf")


class Catalog:
    """The models by name, in the order in which they were given."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        found = list(entries)
        self.entries = {entry.name: entry for entry in found}
        if not found:
            raise AerogelError("expected one or more models to serve, got none")
        if len(self.entries) != len(found):
            names = ", ".join(entry.name for entry in found)
            raise AerogelError(f"expected models with different names, got {names}: say NAME=MODEL")

    @property
    def names(self) -> Sequence[str]:
        """All names."""
        return list(self.entries)

    def named(self, name: str | None) -> Entry:
        """The model of that name, or the first.

        Raises:
            Failure: there is none.
        """
        if not name:
            return next(iter(self.entries.values()))
        found = self.entries.get(name)
        if found is None:
            names = ", ".join(self.entries)
            raise Failure("model", f"The model `{name[:200]}` does not exist: expected one of {names}", "model")
        return found

    def choose(self, name: str | None, task: str) -> Entry:
        """The model of that name, or the first that can do the task.

        Raises:
            Failure: there is none, or it does something else.
        """
        needed, otherwise = TASKS[task]
        if name:
            found = self.named(name)
            if needed not in found.gives:
                raise Failure("task", otherwise)
            return found
        for entry in self.entries.values():
            if needed in entry.gives:
                return entry
        raise Failure("task", otherwise)

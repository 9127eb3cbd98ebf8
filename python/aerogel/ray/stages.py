"""What Ray Data's `map_batches` runs: a model that an actor loads once, and columns in, columns out.

    ds.map_batches(aerogel.ray.Embed("model", column="text"), compute=ray.data.ActorPoolStrategy(size=8), num_cpus=4)

`Embed(...)` and the others check their arguments at once and return a *class*, as Ray Data wants one for actors: it is
sent to each, which loads the model by its path, there, with as many threads as the actor has CPUs.
"""

from __future__ import annotations

import os
import sys
from typing import Any, ClassVar

import numpy as np

from aerogel._util.checks import path_like, text, thread_count
from aerogel.engine.model import Model, load
from aerogel.engine.rerank import ACTIVATIONS
from aerogel.errors import DataError, UnsupportedModelError
from aerogel.ray.batches import texts, with_columns


class Stage:
    """A model in an actor; called with a batch: a dict of NumPy arrays, an Arrow table or a Pandas frame."""

    said: ClassVar[dict[str, Any]]
    load_options: ClassVar[dict[str, Any]]

    def __init__(self) -> None:
        options = dict(self.load_options)
        threads = options.pop("threads", None)
        self.model: Model = load(self.said["model"], actor_threads() if threads is None else threads, **options)
        self.check()

    def check(self) -> None:
        """Raises where the model cannot do it: in the actor's beginning, not at a batch."""

    def __call__(self, batch: Any) -> Any:
        """The batch with the new columns; of the same kind."""
        raise NotImplementedError


def actor_threads() -> int | None:
    """The CPUs that Ray has given to the actor or task in which this runs, at least 1; None outside of one."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    if context.get_task_id() is None and context.get_actor_id() is None:
        return None
    return max(1, int(context.get_assigned_resources().get("CPU", 0)))


def bound(kind: type[Stage], model: Any, load_options: dict[str, Any], **said: Any) -> type[Stage]:
    """A class like `kind` that needs no arguments. A path becomes absolute: actors work in folders of their own."""
    place = os.path.expanduser(path_like("model", model))
    said["model"] = os.path.abspath(place) if os.path.exists(place) else path_like("model", model)
    thread_count(load_options.get("threads", 1))
    for name in ("column", "query", "output"):
        if name in said:
            text(name, said[name], DataError)
    return type(kind.__name__.removesuffix("Stage"), (kind,), {"said": said, "load_options": load_options})


class EmbedStage(Stage):
    """Embeddings of a column."""

    def check(self) -> None:
        if "embedding" not in self.model.outputs:
            self.model.encode([])  # says why

    def __call__(self, batch: Any) -> Any:
        said = self.said
        model, task = self.model, said["task"]
        encode = model.encode if task is None else model.encode_query if task == "query" else model.encode_document
        rows = encode(texts(batch, said["column"]), **said["options"])
        return with_columns(batch, {said["output"]: rows})


class ClassifyStage(Stage):
    """Labels and scores of a column."""

    def check(self) -> None:
        if "scores" not in self.model.outputs:
            self.model.scores([])  # says why

    def __call__(self, batch: Any) -> Any:
        said, names = self.said, self.model.labels
        raw = self.model.scores(texts(batch, said["column"]), **said["options"])
        several = self.model.config.get("problem_type") == "multi_label_classification" or raw.shape[1] == 1
        scores = ACTIVATIONS["sigmoid" if several else "softmax"](raw) if len(raw) else raw
        best = [names[i] for i in np.argmax(raw, axis=1)]
        return with_columns(batch, {said["output"]: best, f"{said['output']}_scores": scores})


class RerankStage(Stage):
    """Scores of a column of documents for a column of queries."""

    def check(self) -> None:
        if len(self.model.labels) != 1:
            self.model.scores([])  # says why, of a model without scores
            raise UnsupportedModelError(
                f"{self.said['model']}: rerank: expected a model with one label, got {len(self.model.labels)}"
            )

    def __call__(self, batch: Any) -> Any:
        said = self.said
        pairs = list(zip(texts(batch, said["query"]), texts(batch, said["column"])))
        return with_columns(batch, {said["output"]: self.model.predict(pairs, **said["options"])})


class GenerateStage(Stage):
    """Continuations of a column of prompts."""

    def __call__(self, batch: Any) -> Any:
        said = self.said
        return with_columns(
            batch, {said["output"]: self.model.generate(texts(batch, said["column"]), **said["options"])}
        )


def Embed(
    model: str | os.PathLike[str],
    column: str = "text",
    output: str = "embedding",
    task: str | None = "document",
    encode_options: dict[str, Any] | None = None,
    **load_options: Any,
) -> type[Stage]:
    """For `map_batches`: adds a column of embeddings, float32 [n, width].

    Args:
        model: what `aerogel.load` takes; it must be there on each machine.
        column: the texts.
        output: the new column.
        task: "document" or "query": after the model's own prompt for these; None: as `Model.encode` does it.
        encode_options: of `Model.encode`: prompt, truncate_dim, precision ...
        load_options: of `aerogel.load`: quant, pooling ...; threads, unless given as many as the actor has CPUs.

    Raises:
        AerogelError: an argument is wrong; in the actor, where the model cannot be loaded; at a batch, a DataError.
    """
    if task not in ("document", "query", None):
        raise DataError(f"task: expected 'document', 'query' or None, got {task!r:.80}")
    options = dict(encode_options or {})
    return bound(EmbedStage, model, load_options, column=column, output=output, task=task, options=options)


def Classify(
    model: str | os.PathLike[str],
    column: str = "text",
    output: str = "label",
    score_options: dict[str, Any] | None = None,
    **load_options: Any,
) -> type[Stage]:
    """For `map_batches`: adds the name of each text's label, and `{output}_scores`, float32 [n, labels]: by softmax, or by
    sigmoid where there is one label or a text may have several.

    Args:
        model: a classifier that `aerogel.load` takes; it must be there on each machine.
        column: the texts.
        output: the new column.
        score_options: of `Model.scores`.
        load_options: of `aerogel.load`; threads, unless given as many as the actor has CPUs.

    Raises:
        AerogelError: as `Embed`.
    """
    options = dict(score_options or {})
    return bound(ClassifyStage, model, load_options, column=column, output=output, options=options)


def Rerank(
    model: str | os.PathLike[str],
    query: str = "query",
    column: str = "text",
    output: str = "score",
    predict_options: dict[str, Any] | None = None,
    **load_options: Any,
) -> type[Stage]:
    """For `map_batches`: adds how well each document answers its query, float32 [n].

    Args:
        model: a reranker that `aerogel.load` takes; it must be there on each machine.
        query: the column of queries.
        column: that of documents.
        output: the new column.
        predict_options: of `Model.predict`.
        load_options: of `aerogel.load`: rerank ...; threads, unless given as many as the actor has CPUs.

    Raises:
        AerogelError: as `Embed`.
    """
    options = dict(predict_options or {})
    return bound(RerankStage, model, load_options, query=query, column=column, output=output, options=options)


def Generate(
    model: str | os.PathLike[str],
    column: str = "prompt",
    output: str = "generated",
    generate_options: dict[str, Any] | None = None,
    **load_options: Any,
) -> type[Stage]:
    """For `map_batches`: adds the text that continues each prompt. A batch is written together, so let batches be small (16
    to 64 rows); with a seed, row i of a batch has seed + i.

    Args:
        model: a language model that `aerogel.load` takes; it must be there on each machine.
        column: the prompts.
        output: the new column.
        generate_options: of `Model.generate`: max_new_tokens, chat, temperature ...
        load_options: of `aerogel.load`: kv_cache ...; threads, unless given as many as the actor has CPUs.

    Raises:
        AerogelError: as `Embed`.
    """
    options = dict(generate_options or {})
    return bound(GenerateStage, model, load_options, column=column, output=output, options=options)

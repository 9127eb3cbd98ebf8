"""Haystack's components (`pip install aerogel[haystack]`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict

from aerogel.engine.model import Model, load


class _Component:
    """A component that loads its model when a pipeline warms up, or at the first run.

    Called by its name where it is subclassed: Haystack makes the classes anew, and super() would mean the first ones.
    """

    def __init__(self, model: str, options: dict[str, Any], load_options: dict[str, Any] | None) -> None:
        self._name, self._options, self._load = model, options, dict(load_options or {})
        self._loaded: Model | None = None

    def warm_up(self) -> None:
        """Loads the model."""
        if self._loaded is None:
            self._loaded = load(self._name, **self._load)

    @property
    def _model(self) -> Model:
        self.warm_up()
        assert self._loaded is not None
        return self._loaded

    def to_dict(self) -> dict[str, Any]:
        """How a pipeline saves it."""
        found: dict[str, Any] = default_to_dict(self, model=self._name, load_options=self._load, **self._options)
        return found

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """What `to_dict` saved."""
        return default_from_dict(cls, data)


@component
class AerogelTextEmbedder(_Component):
    """Embeds a query, after the prompt that the model's authors put before one.

    Args:
        model: what `aerogel.load` takes.
        encode_options: of `Model.encode`: normalize, truncate_dim ...
        load_options: of `aerogel.load`: threads, pooling ...
    """

    def __init__(
        self, model: str, encode_options: dict[str, Any] | None = None, load_options: dict[str, Any] | None = None
    ) -> None:
        _Component.__init__(self, model, {"encode_options": dict(encode_options or {})}, load_options)

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """The text's embedding."""
        return {"embedding": self._model.encode_query(text, **self._options["encode_options"]).tolist()}


@component
class AerogelDocumentEmbedder(_Component):
    """Embeds documents, after the prompt that the model's authors put before one.

    Args:
        model: what `aerogel.load` takes.
        encode_options: of `Model.encode`: normalize, truncate_dim ...
        load_options: of `aerogel.load`: threads, pooling ...
        meta_fields_to_embed: of a document's metadata, embedded before its content.
        embedding_separator: between them.
    """

    def __init__(
        self,
        model: str,
        encode_options: dict[str, Any] | None = None,
        load_options: dict[str, Any] | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        options = {
            "encode_options": dict(encode_options or {}),
            "meta_fields_to_embed": list(meta_fields_to_embed or []),
            "embedding_separator": embedding_separator,
        }
        _Component.__init__(self, model, options, load_options)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """The documents with their embeddings; copies."""
        fields, between = self._options["meta_fields_to_embed"], self._options["embedding_separator"]
        texts = []
        for document in documents:
            parts = [str(document.meta[field]) for field in fields if document.meta.get(field) is not None]
            texts.append(between.join([*parts, document.content or ""]))
        rows = self._model.encode_document(texts, **self._options["encode_options"]).tolist()
        return {"documents": [replace(d, embedding=row) for d, row in zip(documents, rows, strict=True)]}


@component
class AerogelRanker(_Component):
    """Orders documents by what a cross-encoder scores them for a query.

    Args:
        model: what `aerogel.load` takes.
        top_k: how many documents are kept; None: all.
        load_options: of `aerogel.load`.
    """

    def __init__(self, model: str, top_k: int | None = 10, load_options: dict[str, Any] | None = None) -> None:
        _Component.__init__(self, model, {"top_k": top_k}, load_options)

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """The best documents, the best first, with their scores; copies."""
        most = self._options["top_k"] if top_k is None else top_k
        ranked = self._model.rank(query, [document.content or "" for document in documents], most)
        return {"documents": [replace(documents[row["corpus_id"]], score=row["score"]) for row in ranked]}

"""The routes of text-embeddings-inference."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from aerogel.engine.scheduling import Scored
from aerogel.serve.failures import Failure
from aerogel.serve.inputs import as_texts, check_ids, rows
from aerogel.serve.service import Service
from aerogel.serve.shapes import (
    DecodeRequest,
    EmbedAllRequest,
    EmbedRequest,
    PredictRequest,
    RerankRequest,
    SimilarityParameters,
    SimilarityRequest,
    TokenizeRequest,
)


async def embed(service: Service, said: EmbedRequest) -> Any:
    """Embeddings, one row a text."""
    found = await _embedded(service, said, "embed", "sentence", normalize=said.normalize, dimensions=said.dimensions)
    return [one.values for one in found]


async def embed_all(service: Service, said: EmbedAllRequest) -> Any:
    """The vectors of all tokens of each text."""
    return [one.values for one in await _embedded(service, said, "tokens", "tokens")]


async def embed_sparse(service: Service, said: EmbedAllRequest) -> Any:
    """Of each text the terms of the vocabulary that it has a weight for."""
    found = await _embedded(service, said, "sparse", "sparse")
    return [
        [{"index": term, "value": weight} for term, weight in zip(_terms(one), one.values.tolist(), strict=True)]
        for one in found
    ]


def _terms(one: Any) -> list[int]:
    assert one.terms is not None
    found: list[int] = one.terms.tolist()
    return found


async def _embedded(
    service: Service, said: EmbedRequest | EmbedAllRequest, task: str, kind: str, **options: Any
) -> list[Any]:
    entry = service.choose(said.model, task)
    _, given = rows(said.inputs, "inputs")
    service.check_count(len(given), "inputs")
    dimensions = options.get("dimensions")
    if dimensions is not None and dimensions < 1:
        raise Failure("value", "`dimensions` must be positive", "dimensions")
    texts = as_texts(await service.model(entry), given, "inputs")
    return await service.scheduler.embed(
        entry.name,
        texts,
        kind=kind,
        truncate=service.truncates(said.truncate),
        timeout=service.options.timeout,
        **service.prompt(said.prompt_name),
        **options,
    )


async def rerank(service: Service, said: RerankRequest) -> Any:
    """Texts by how well they answer the query, the best first."""
    entry = service.choose(said.model, "rank")
    service.check_count(len(said.texts), "texts")
    found = await service.scheduler.score(
        entry.name,
        [(said.query, text) for text in said.texts],
        raw_scores=said.raw_scores,
        truncate=service.truncates(said.truncate),
        timeout=service.options.timeout,
    )
    scores = [float(one.values[0]) for one in found]
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    text = {i: {"text": said.texts[i]} if said.return_text else {} for i in order}
    return [{"index": i, **text[i], "score": scores[i]} for i in order]


async def predict(service: Service, said: PredictRequest) -> Any:
    """The classes of texts or pairs, the likeliest first."""
    entry = service.choose(said.model, "score")
    one, given = _sequences(said.inputs)
    service.check_count(len(given), "inputs")
    found: list[Scored | None] = [None] * len(given)
    # The scheduler takes texts or pairs, not both in one call.
    for pairs in (False, True):
        places = [i for i, row in enumerate(given) if (len(row) == 2) == pairs]
        if places:
            scored = await service.scheduler.score(
                entry.name,
                [(given[i][0], given[i][1]) if pairs else given[i][0] for i in places],
                raw_scores=said.raw_scores,
                truncate=service.truncates(said.truncate),
                timeout=service.options.timeout,
            )
            for i, row in zip(places, scored, strict=True):
                found[i] = row
    answers = [_predictions(entry.labels, row.values) for row in found if row is not None]
    return answers[0] if one else answers


def _sequences(inputs: str | list[str | list[str]]) -> tuple[bool, list[list[str]]]:
    """Whether it is a single one; each text as [text] or pair as [first, second]."""
    if isinstance(inputs, str):
        return True, [[inputs]]
    if not inputs:
        return False, []
    if isinstance(inputs[0], str):
        given = [[one for one in inputs if isinstance(one, str)]]
        one = len(given[0]) == len(inputs)
    else:
        given = [row for row in inputs if isinstance(row, list)]
        one = False
        if len(given) != len(inputs):
            given = [[]]
    if any(not 1 <= len(row) <= 2 for row in given) or (isinstance(inputs[0], str) and not one):
        wanted = "a string, a pair of strings [string, string] or a batch of mixed strings and pairs"
        raise Failure("type", f"inputs: expected {wanted} [[string], [string, string], ...]", "inputs")
    return one, given


def _predictions(labels: tuple[str, ...], values: np.ndarray) -> list[dict[str, Any]]:
    order = np.argsort(-values, kind="stable").tolist()
    return [{"score": float(values[i]), "label": labels[i] if i < len(labels) else str(i)} for i in order]


async def similarity(service: Service, said: SimilarityRequest) -> Any:
    """The cosine similarity of a sentence with each of the others."""
    options = said.parameters or SimilarityParameters()
    sentences = said.inputs.sentences
    service.check_count(len(sentences), "inputs.sentences")
    entry = service.choose(said.model, "embed")
    found = await service.scheduler.embed(
        entry.name,
        [said.inputs.source_sentence, *sentences],
        normalize=True,
        truncate=service.truncates(options.truncate),
        timeout=service.options.timeout,
        **service.prompt(options.prompt_name),
    )
    values = np.stack([one.values for one in found])
    return (values[1:] @ values[0]).tolist()


async def tokenize(service: Service, said: TokenizeRequest) -> Any:
    """Texts in tokens: id, text, whether it is a special one, and the characters that it stands for."""
    model = await service.model(service.catalog.named(said.model))
    texts = [said.inputs] if isinstance(said.inputs, str) else said.inputs
    service.check_count(len(texts), "inputs")
    if said.prompt_name is not None:
        if said.prompt_name not in model.prompts:
            raise Failure("value", f"prompt_name: expected one of {', '.join(model.prompts) or 'none'}", "prompt_name")
        texts = [model.prompts[said.prompt_name] + text for text in texts]
    return await asyncio.to_thread(lambda: [_tokens(model, text, said.add_special_tokens) for text in texts])


def _tokens(model: Any, text: str, special: bool) -> list[dict[str, Any]]:
    [pieces] = model.tokenizer.pieces(text)
    found = []
    for id, token, (start, stop), source in zip(pieces.ids, pieces.tokens, pieces.offsets, pieces.sources, strict=True):
        if source is None and special:
            found.append({"id": id, "text": token, "special": True, "start": None, "stop": None})
        elif source is not None:
            found.append({"id": id, "text": text[start:stop], "special": False, "start": start, "stop": stop})
    return found


async def decode(service: Service, said: DecodeRequest) -> Any:
    """The texts of token ids."""
    model = await service.model(service.catalog.named(said.model))
    flat = [one for one in said.ids if isinstance(one, int)]
    lists = [one for one in said.ids if isinstance(one, list)]
    if flat and lists:
        raise Failure("type", "ids: expected token ids, or lists of them, got both", "ids")
    each = [flat] if flat else lists
    service.check_count(len(each), "ids")
    for ids in each:
        check_ids(model, ids, "ids")
    return await asyncio.to_thread(lambda: [model.tokenizer.decode(ids, said.skip_special_tokens) for ids in each])

"""What requests look like: their fields, types and defaults, which are those of the APIs that they are of."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

#: A text, its token ids, or a list of either. (msgspec has one kind of lists in a union: `inputs.rows` says which it is.)
Inputs = str | list[str | int | list[int]]
#: From where a text that is too long is cut. The tokenizer's own side is the right one but for a few models.
Side = Literal["right", "Right"]


class Body(msgspec.Struct, kw_only=True):
    """What all requests may say; fields that are not known are ignored, as the APIs that these are of do it.

    `model`: which one; unless given the first that can do it.
    """

    model: str | None = None


class EmbedRequest(Body, kw_only=True):
    """POST /embed"""

    inputs: Inputs
    truncate: bool | None = None
    truncation_direction: Side = "right"
    prompt_name: str | None = None
    normalize: bool = True
    dimensions: int | None = None


class EmbedAllRequest(Body, kw_only=True):
    """POST /embed_all, /embed_sparse"""

    inputs: Inputs
    truncate: bool | None = None
    truncation_direction: Side = "right"
    prompt_name: str | None = None


class RerankRequest(Body, kw_only=True):
    """POST /rerank"""

    query: str
    texts: list[str]
    truncate: bool | None = None
    truncation_direction: Side = "right"
    raw_scores: bool = False
    return_text: bool = False


class PredictRequest(Body, kw_only=True):
    """POST /predict. A text, a pair [first, second], or a list of [text] and of pairs."""

    inputs: str | list[str | list[str]]
    truncate: bool | None = None
    truncation_direction: Side = "right"
    raw_scores: bool = False


class SimilarityInputs(msgspec.Struct):
    """A sentence, and those that it is compared with."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(msgspec.Struct):
    """Of /similarity"""

    truncate: bool | None = None
    truncation_direction: Side = "right"
    prompt_name: str | None = None


class SimilarityRequest(Body, kw_only=True):
    """POST /similarity"""

    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = None


class TokenizeRequest(Body, kw_only=True):
    """POST /tokenize"""

    inputs: str | list[str]
    add_special_tokens: bool = True
    prompt_name: str | None = None


class DecodeRequest(Body, kw_only=True):
    """POST /decode"""

    ids: list[int | list[int]]
    skip_special_tokens: bool = True


class EmbeddingsRequest(Body, kw_only=True):
    """POST /v1/embeddings"""

    input: Inputs
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


class RankRequest(Body, kw_only=True):
    """POST /v1/rerank"""

    query: str
    documents: list[str | dict[str, Any]]
    top_n: int | None = None
    return_documents: bool = False
    truncate: bool | None = None


class StreamOptions(msgspec.Struct):
    """Of streams: whether the last event says how many tokens there were."""

    include_usage: bool = False


class JsonSchema(msgspec.Struct):
    """The form of an answer."""

    schema: dict[str, Any] = {}
    name: str = ""
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    """text, json_object or json_schema"""

    type: str = "text"
    json_schema: JsonSchema | None = None


class Sampling(Body, kw_only=True):
    """What every text's request may say. top_k, min_p and repetition_penalty are not OpenAI's."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the numbers of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(Sampling, kw_only=True):
    """POST /v1/chat/completions"""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class CompletionRequest(Sampling, kw_only=True):
    """POST /v1/completions"""

    prompt: Inputs
    echo: bool | None = None
    logprobs: int | None = None
    suffix: str | None = None
    best_of: int | None = None

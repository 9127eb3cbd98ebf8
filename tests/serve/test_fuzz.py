"""Whatever a body says, the answer is one of the API's, and tells nothing of this machine.

AEROGEL_FUZZ_ROUTES=500 pytest tests/serve/test_fuzz.py: so many bodies for every route, other ones each time.
"""

import json
import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .client import post

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def bodies(kind):
    """Objects with some of a request's fields, of any values, most of them of no sense; and other bodies."""
    import msgspec

    names = [field.encode_name for field in msgspec.structs.fields(kind) if field.encode_name != "model"]
    fields = {name: _VALUES | st.sampled_from(["a", ["a", "b"], 1, True, [1, 2]]) for name in names}
    objects = st.fixed_dictionaries({}, optional=fields).map(lambda body: json.dumps(body).encode())
    return objects | _VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20)


#: Bodies that are answered, with everything that they may say.
_SAMPLING = {
    "max_tokens": 3,
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 5,
    "min_p": 0.01,
    "n": 2,
    "stream": True,
    "stream_options": {"include_usage": True},
    "stop": ["zz", "q"],
    "seed": 1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "repetition_penalty": 1.1,
    "logit_bias": {"5": 1.5, "7": -100},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "integer"}}},
    "user": "a",
}
_CALL = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}, "id": "c"}
_SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
_CHAT = {
    "messages": [
        {"role": "system", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [_CALL]},
        {"role": "tool", "content": "c", "tool_call_id": "c"},
    ],
    "logprobs": True,
    "top_logprobs": 2,
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": _SCHEMA}}],
    "tool_choice": "auto",
    "chat_template_kwargs": {"thinking": False},
    **_SAMPLING,
}
_TEXTS = {"truncate": True, "truncation_direction": "Right", "prompt_name": "query"}
_RANK = {"query": "the cat", "documents": ["a", {"text": "dog"}], "top_n": 1, "return_documents": True}
SENSIBLE = {
    "/v1/embeddings": {"input": ["the cat", [5, 6]], "encoding_format": "base64", "dimensions": 4},
    "/v1/chat/completions": _CHAT,
    "/v1/completions": {"prompt": ["ab", [5, 6]], "echo": True, "logprobs": 2, "best_of": 1, "suffix": "", **_SAMPLING},
    "/v1/rerank": _RANK,
    "/v2/rerank": _RANK,
    "/embed": {"inputs": ["the cat", "dog"], "normalize": False, "dimensions": 4, **_TEXTS},
    "/embed_all": {"inputs": ["the cat", [5, 6]], **_TEXTS},
    "/embed_sparse": {"inputs": ["the cat", "dog"], **_TEXTS},
    "/rerank": {"query": "the cat", "texts": ["a", "dog"], "raw_scores": True, "return_text": True, "truncate": True},
    "/predict": {"inputs": [["the cat", "dog"], ["a"]], "raw_scores": True, "truncate": True},
    "/similarity": {"inputs": {"source_sentence": "the cat", "sentences": ["a", "dog"]}, "parameters": _TEXTS},
    "/tokenize": {"inputs": ["the cat", "dog"], "add_special_tokens": False, "prompt_name": "query"},
    "/decode": {"ids": [[5, 6], [7]], "skip_special_tokens": False},
}
_NUMBERS = [0, -1, 1, 2, 0.0, -0.0, 1e-300, 1e300, -1e308, 1e39, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63)]
_TEXT = [
    "",
    " ",
    "a" * 3000,
    "\x00",
    "\u202e\ud7ff",
    "\U0001f600" * 40,
    "{{ 1 }}",
    "{% raw %}",
    "[MASK]",
    "</s>",
    "[[[",
]
_NESTED = st.integers(1, 60).map(lambda depth: json.loads("[" * depth + "]" * depth))
_HOSTILE = st.sampled_from([*_NUMBERS, *_TEXT, None, True, False, [], {}, [[]], [{}], {"": {}}]) | _VALUES | _NESTED
_KEYS = st.sampled_from(
    "type $ref anyOf enum pattern minimum maxLength items properties required format messages role tools name".split()
)


@st.composite
def changed(draw, value, depth=0):
    """A value with something in it replaced, left out, doubled or added."""
    if depth and draw(st.integers(0, 3)) == 0:
        return draw(_HOSTILE)
    if isinstance(value, dict) and value:
        key = draw(st.sampled_from(sorted(value)))
        how = draw(st.integers(0, 5))
        if how == 0:
            return {name: inner for name, inner in value.items() if name != key}
        if how == 1 and depth:
            return {**value, draw(_KEYS | st.text(max_size=4)): draw(_HOSTILE)}
        return {**value, key: draw(changed(value[key], depth + 1))}
    if isinstance(value, list) and value:
        at = draw(st.integers(0, len(value) - 1))
        how = draw(st.integers(0, 4))
        if how == 0:
            return value * draw(st.integers(2, 5))
        if how == 1:
            return [*value, draw(_HOSTILE)]
        return [*value[:at], draw(changed(value[at], depth + 1)), *value[at + 1 :]]
    return draw(_HOSTILE)


@st.composite
def nearly(draw, path):
    """A sensible body, some of its fields left out, with a change or a few."""
    whole = SENSIBLE[path]
    first = next(iter(whole))
    body = {name: value for name, value in whole.items() if name == first or draw(st.integers(0, 2)) == 0}
    body |= {name: whole[name] for name in ("query", "texts", "documents") if name in whole}
    for _ in range(draw(st.integers(0, 3))):
        body = draw(changed(body))
    if isinstance(body, dict) and draw(st.integers(0, 7)) == 0:
        body["model"] = draw(st.sampled_from(["embedder", "reranker", "classifier", "terms", "writer"]))
    try:
        return json.dumps(body).encode()
    except UnicodeEncodeError:
        return b"{}"


def check_one(app, route, body):
    """Posts a body, and looks at the answer."""
    found = post(app, route.path, body)
    assert found.status in (200, 400, 404, 413, 422, 424), (route.path, body, found.body)
    if found.status != 200:
        shape = {"openai": {"error"}, "tei": {"error", "error_type"}, "cohere": {"message", "detail"}}[route.style]
        assert set(found.json) == shape
    assert b"internal error" not in found.body and b"/home/" not in found.body, (route.path, body, found.body)
    assert b"/tmp" not in found.body or b"/tmp" in body


def fuzz(app, body_of):
    """Every route with bodies that `body_of(route)` draws."""
    from aerogel.serve.routes import ROUTES

    many = os.environ.get("AEROGEL_FUZZ_ROUTES")
    chosen = {"max_examples": int(many or 3), "derandomize": many is None, "database": None, "deadline": None}

    @settings(suppress_health_check=list(HealthCheck), **chosen)
    @given(st.data())
    def run(data):
        for route in ROUTES:
            check_one(app, route, data.draw(body_of(route)))

    run()


def test_every_route(app):
    fuzz(app, lambda route: bodies(route.kind))


def test_what_is_nearly_sensible(app):
    from aerogel.serve.routes import ROUTES

    assert {route.path for route in ROUTES} == set(SENSIBLE)
    for route in ROUTES:
        check_one(app, route, json.dumps(SENSIBLE[route.path]).encode())
    fuzz(app, lambda route: nearly(route.path))


def test_texts_that_are_no_unicode(app):
    for route, body in (
        ("/embed", rb'{"inputs": "\ud800"}'),
        ("/tokenize", rb'{"inputs": "\udfff a"}'),
        ("/rerank", rb'{"query": "\ud800", "texts": ["a"]}'),
        ("/v1/completions", rb'{"prompt": "\ud800", "max_tokens": 1}'),
        ("/v1/chat/completions", rb'{"messages": [{"role": "user", "content": "\ud800"}], "max_tokens": 1}'),
        ("/v1/embeddings", rb'{"input": "a", "model": "\ud800"}'),
        ("/embed", b'{"inputs": "a\\u0000b"}'),
    ):
        found = post(app, route, body)
        assert found.status in (200, 400, 404, 413, 422), (route, found.body)

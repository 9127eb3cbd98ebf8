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


def check_one(app, route, body):
    """Posts a body, and looks at the answer."""
    found = post(app, route.path, body)
    assert found.status in (200, 400, 404, 413, 422, 424), (route.path, body, found.body)
    if found.status != 200:
        shape = {"openai": {"error"}, "tei": {"error", "error_type"}, "cohere": {"message", "detail"}}[route.style]
        assert set(found.json) == shape
    assert b"internal error" not in found.body and b"/home/" not in found.body, (route.path, body, found.body)
    assert b"/tmp" not in found.body or b"/tmp" in body


def test_every_route(app):
    from aerogel.serve.routes import ROUTES

    many = os.environ.get("AEROGEL_FUZZ_ROUTES")
    chosen = {"max_examples": int(many or 3), "derandomize": many is None, "database": None, "deadline": None}

    @settings(suppress_health_check=list(HealthCheck), **chosen)
    @given(st.data())
    def run(data):
        for route in ROUTES:
            check_one(app, route, data.draw(bodies(route.kind)))

    run()


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

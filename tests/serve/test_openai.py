"""OpenAI's routes, beside what the models give when they are called."""

import asyncio
import base64
import threading
import time

import numpy as np
import pytest

from aerogel.engine.scheduling import SchedulerOptions
from aerogel.engine.scheduling.worker import Worker

from .client import ask, get, post

TALK = [{"role": "user", "content": "hi"}]


def test_embeddings(app, loaded):
    texts = ["the cat", "a big dog"]
    found = post(app, "/v1/embeddings", {"input": texts, "model": "embedder"}).json
    expected = loaded["embedder"].encode(texts, normalize=True)
    np.testing.assert_allclose([one["embedding"] for one in found["data"]], expected, atol=1e-6)
    assert [one["index"] for one in found["data"]] == [0, 1] and found["model"] == "embedder"
    tokens = sum(map(len, loaded["embedder"].tokenizer.encode(texts)))
    assert found["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    coded = post(app, "/v1/embeddings", {"input": texts[0], "encoding_format": "base64"}).json["data"][0]["embedding"]
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(coded), "<f4"), expected[0], atol=1e-6)
    short = post(app, "/v1/embeddings", {"input": texts, "dimensions": 7}).json["data"][1]["embedding"]
    np.testing.assert_allclose(short, expected[1, :7] / np.linalg.norm(expected[1, :7]), atol=1e-6)


def test_models(app):
    assert [one["id"] for one in get(app, "/v1/models").json["data"]][0] == "embedder"
    assert get(app, "/v1/models/writer").json["object"] == "model"
    assert get(app, "/v1/models/nobody").json["error"]["code"] == "model_not_found"


def test_completions(app, loaded):
    said = {"prompt": ["abc", "xyz"], "max_tokens": 6, "temperature": 0, "model": "writer"}
    expected = loaded["writer"].complete(["abc", "xyz"], max_new_tokens=6, logprobs=2)
    found = post(app, "/v1/completions", {**said, "logprobs": 2}).json
    assert [one["text"] for one in found["choices"]] == [one.text for one in expected]
    assert [one["finish_reason"] for one in found["choices"]] == [one.finish_reason for one in expected]
    logprobs = found["choices"][0]["logprobs"]
    np.testing.assert_allclose(logprobs["token_logprobs"], [one.logprob for one in expected[0].logprobs], atol=1e-4)
    assert len(logprobs["text_offset"]) == len(logprobs["tokens"]) and len(logprobs["top_logprobs"][0]) <= 2
    assert found["usage"]["prompt_tokens"] == 6
    assert found["usage"]["completion_tokens"] == sum(len(one.token_ids) for one in expected)
    ids = loaded["writer"].tokenizer.encode(["abc"])[0]
    same = post(app, "/v1/completions", {**said, "prompt": ids, "echo": True}).json["choices"][0]["text"]
    assert same == "abc" + expected[0].text


def test_streams_say_the_same(app):
    said = {"prompt": ["abc", "q"], "max_tokens": 9, "n": 2, "seed": 5, "temperature": 1.5}
    whole = post(app, "/v1/completions", said).json
    events = post(app, "/v1/completions", {**said, "stream": True, "stream_options": {"include_usage": True}}).events
    assert events[-1]["usage"] == whole["usage"] and events[-1]["choices"] == []
    for number, choice in enumerate(whole["choices"]):
        own = [e["choices"][0] for e in events[:-1] if e["choices"][0]["index"] == number]
        assert "".join(one["text"] for one in own) == choice["text"]
        assert [one["finish_reason"] for one in own][-1] == choice["finish_reason"]
    assert len({choice["text"] for choice in whole["choices"]}) > 1
    talk = {"messages": TALK, "max_tokens": 9, "seed": 1, "n": 2, "logprobs": True, "top_logprobs": 1}
    whole = post(app, "/v1/chat/completions", talk).json
    events = post(app, "/v1/chat/completions", {**talk, "stream": True}).events
    for number, choice in enumerate(whole["choices"]):
        own = [e["choices"][0] for e in events if e["choices"][0]["index"] == number]
        assert own[0]["delta"]["role"] == "assistant"
        assert "".join(one["delta"].get("content", "") for one in own) == choice["message"]["content"]
        logprobs = [token for one in own for token in (one["logprobs"] or {"content": []})["content"]]
        expected = choice["logprobs"]["content"]
        assert [one["token"] for one in logprobs] == [one["token"] for one in expected]
        # Which texts share a step is not the same each time, and the sums of floats with it.
        np.testing.assert_allclose([o["logprob"] for o in logprobs], [o["logprob"] for o in expected], rtol=1e-4)
        assert len(logprobs[0]["top_logprobs"]) == 1


def test_chat(app, loaded):
    said = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "max_tokens": 5,
        "temperature": 0,
    }
    found = post(app, "/v1/chat/completions", said).json
    assert found["choices"][0]["message"]["content"] == loaded["writer"].chat(TALK, 5)
    assert found["object"] == "chat.completion" and found["choices"][0]["logprobs"] is None
    biased = post(app, "/v1/chat/completions", {**said, "logit_bias": {"40": 1000}, "max_completion_tokens": 3}).json
    assert biased["choices"][0]["message"]["content"] == loaded["writer"].tokenizer.decode([40]) * 3
    letter = biased["choices"][0]["message"]["content"][0]
    stopped = post(app, "/v1/chat/completions", {**said, "logit_bias": {"40": 1000}, "stop": [letter]}).json
    assert stopped["choices"][0]["message"]["content"] == "" and stopped["choices"][0]["finish_reason"] == "stop"


def test_forms(app):
    pytest.importorskip("llguidance")
    import json

    schema = {
        "type": "object",
        "properties": {"x": {"type": "boolean"}},
        "required": ["x"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    said = {"messages": TALK, "max_tokens": 60, "seed": 1, "response_format": form}
    found = post(app, "/v1/chat/completions", said).json["choices"][0]
    assert found["finish_reason"] != "stop" or json.loads(found["message"]["content"])["x"] in (True, False)
    tool = {"type": "function", "function": {"name": "look", "parameters": schema}}
    called = {**said, "response_format": None, "tools": [tool], "tool_choice": "required", "top_k": 1}
    whole = post(app, "/v1/chat/completions", called).json["choices"][0]
    assert whole["finish_reason"] == "tool_calls" and whole["message"]["content"] is None
    [call] = whole["message"]["tool_calls"]
    assert call["function"]["name"] == "look" and "x" in json.loads(call["function"]["arguments"])
    events = post(app, "/v1/chat/completions", {**called, "stream": True}).events
    [delta] = [e["choices"][0]["delta"] for e in events if "tool_calls" in e["choices"][0]["delta"]]
    assert delta["tool_calls"][0]["function"] == call["function"]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/v1/embeddings", {"input": 3}, 400, "input"),
        ("/v1/embeddings", {"input": "a", "dimensions": 1000}, 400, "dimensions"),
        ("/v1/embeddings", {"input": "a", "model": "nobody"}, 404, "model"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "hex"}, 400, "encoding_format"),
        ("/v1/chat/completions", {"messages": []}, 400, "messages"),
        ("/v1/chat/completions", {"messages": [{"content": "a"}]}, 400, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages"),
        ("/v1/chat/completions", {"messages": TALK, "n": 99}, 400, "n"),
        ("/v1/chat/completions", {"messages": TALK, "temperature": -1}, 400, None),
        ("/v1/chat/completions", {"messages": TALK, "logit_bias": {"x": 1}}, 400, "logit_bias"),
        ("/v1/chat/completions", {"messages": TALK, "top_logprobs": 99}, 400, "top_logprobs"),
        ("/v1/chat/completions", {"messages": TALK, "response_format": {"type": "xml"}}, 400, "response_format"),
        ("/v1/chat/completions", {"messages": TALK, "tools": [{}]}, 400, "tools"),
        ("/v1/chat/completions", {"messages": TALK, "model": "embedder"}, 400, None),
        ("/v1/chat/completions", {"messages": TALK, "stream": True, "temperature": -1}, 400, None),
        ("/v1/completions", {"prompt": "a" * 1000}, 400, None),
        ("/v1/completions", {"prompt": [9999]}, 400, "prompt"),
        ("/v1/completions", {"prompt": "a", "suffix": "b"}, 400, "suffix"),
        ("/v1/nothing", {}, 404, None),
    ],
)
def test_errors(app, path, body, status, param):
    found = post(app, path, body)
    assert (found.status, found.json["error"]["param"]) == (status, param), found.body
    assert found.json["error"]["type"] == "invalid_request_error" and found.json["error"]["message"]


def test_who_goes_is_not_written_for(make, monkeypatch):
    app = make(["writer"])
    step = Worker.step

    def slow(worker):  # so that nothing is written before its client has gone
        time.sleep(0.005)
        return step(worker)

    monkeypatch.setattr(Worker, "step", slow)

    async def run():
        said = {"prompt": "a", "max_tokens": 200, "logit_bias": {"1": -1000}}
        await ask(app, "POST", "/v1/completions", {**said, "stream": True}, leave_after=3)
        await ask(app, "POST", "/v1/completions", {**said, "n": 3}, leave_after=0)
        for _ in range(100):
            if not app.service.scheduler.metrics.queued:
                break
            await asyncio.sleep(0.01)

    asyncio.run(run())
    metrics = app.service.scheduler.metrics
    # Of the second request none may have been let in yet when the client goes, on a busy machine.
    assert metrics.queued == 0 and metrics.ended == {"cancelled": metrics.accepted} and metrics.accepted >= 1
    assert 'te_request_failure{err="dropped"} 1.0' in get(app, "/metrics").body.decode()


def test_overload(make, monkeypatch):
    app = make(["writer"], scheduling=SchedulerOptions(max_requests=1))
    step, refused_both = Worker.step, threading.Event()

    def waiting(worker):  # so that the first one is not answered before the others are looked at
        assert refused_both.wait(60)
        return step(worker)

    monkeypatch.setattr(Worker, "step", waiting)

    async def run():
        said = {"prompt": "a", "max_tokens": 100, "logit_bias": {"1": -1000}}
        asked = [asyncio.create_task(ask(app, "POST", "/v1/completions", said)) for _ in range(3)]
        for each in asyncio.as_completed(asked):
            await each
            if sum(one.done() for one in asked) == 2:
                refused_both.set()
        return [one.result() for one in asked]

    found = asyncio.run(run())
    assert sorted(one.status for one in found) == [200, 429, 429]
    refused = next(one for one in found if one.status == 429)
    assert int(refused.headers["retry-after"]) >= 1 and refused.json["error"]["code"] == "rate_limit_exceeded"


def test_deadline(make):
    app = make(["writer"], timeout=0.001)
    start = time.monotonic()
    found = post(app, "/v1/completions", {"prompt": "a", "max_tokens": 200, "logit_bias": {"1": -1000}})
    assert found.status == 504 and time.monotonic() - start < 30

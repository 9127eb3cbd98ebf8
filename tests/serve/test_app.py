"""Who is answered, what pages there are, and that nothing of this machine is told."""

import asyncio
import json
import os

import pytest

from .client import ask, get, post


def test_key(make):
    app = make(["embedder"], api_key="sésame")
    assert post(app, "/embed", {"inputs": "a"}).status == 401
    refused = post(app, "/v1/embeddings", {"input": "a"}, headers={"authorization": "Bearer no"})
    assert refused.status == 401 and refused.json["error"]["code"] == "invalid_api_key"
    assert refused.headers["www-authenticate"] == "Bearer"
    # As bytes of UTF-8, which clients send, read as Latin-1, which servers do.
    key = "sésame".encode().decode("latin-1")
    assert post(app, "/embed", {"inputs": "a"}, headers={"authorization": f"bearer {key}"}).status == 200
    assert [get(app, path).status for path in ("/", "/health", "/metrics", "/info", "/explain")] == [
        200,
        200,
        401,
        401,
        401,
    ]


def test_hosts(make):
    app = make(["embedder"], hosts=("localhost", "[::1]"))
    said = {"evil.example": 421, "localhost:80": 200, "LOCALHOST": 200, "[::1]:80": 200, "": 421, "localhost.evil": 421}
    for host, status in said.items():
        assert get(app, "/info", headers={"host": host}).status == status, host


def test_other_sites(make):
    app = make(["embedder"], cors=("https://a.example",))
    headers = {"origin": "https://a.example", "access-control-request-method": "POST"}
    found = asyncio.run(ask(app, "OPTIONS", "/embed", headers=headers))
    assert found.status == 200 and found.headers["access-control-allow-origin"] == "https://a.example"
    headers["origin"] = "https://b.example"
    assert asyncio.run(ask(app, "OPTIONS", "/embed", headers=headers)).status == 400


def test_a_slow_body(make):
    app = make(["embedder"], body_seconds=0.02)

    async def never():
        await asyncio.sleep(60)

    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"host", b"x")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/embed",
        "headers": headers,
        "query_string": b"",
        "root_path": "",
    }
    asyncio.run(app(scope, never, send))
    assert sent[0]["status"] == 408


def test_pages_ask_nobody_else(app):
    for path in ("/", "/docs", "/page/page.js", "/page/page.css", "/page/docs.js"):
        found = get(app, path)
        assert found.status == 200 and "default-src 'self'" in found.headers["content-security-policy"], path
        text = found.body.decode()
        for foreign in ("http://", "https://", "//cdn", "@import", "innerHTML", "<script>", " style=", "onclick="):
            assert foreign not in text.replace("http://www.w3.org/2000/svg", ""), (path, foreign)


def test_openapi(app):
    found = get(app, "/openapi.json").json
    assert found["openapi"].startswith("3.1")
    paths = {place.path for place in app.routes}
    assert {path.replace("{model}", "{model:path}") for path in found["paths"]} <= paths
    body = found["paths"]["/embed"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    name = body["$ref"].rpartition("/")[2]
    assert {"inputs", "truncate", "normalize"} <= set(found["components"]["schemas"][name]["properties"])

    def references(value):
        if isinstance(value, dict):
            yield from ([value["$ref"]] if "$ref" in value else [])
            for one in value.values():
                yield from references(one)
        if isinstance(value, list):
            for one in value:
                yield from references(one)

    for one in references(found):
        assert one.rpartition("/")[2] in found["components"]["schemas"]


def test_explain(app):
    found = get(app, "/explain").json
    linears = [step for step in found["steps"] if step["op"] == "linear"]
    assert linears and all(step["ms"] >= 0 and 0 <= step["zeros"] <= 1 for step in linears)
    assert found["total_ms"] == pytest.approx(sum(step["ms"] for step in found["steps"]))


def test_no_path_is_told(make, folders, entries, tmp_path, caplog):
    from aerogel.errors import AerogelError, CheckpointError, DataError
    from aerogel.serve.failures import Explainer

    explainer = Explainer((entry.name, entry.path) for entry in entries)
    home = os.path.expanduser("~")
    for error in (
        DataError(f"{folders['writer']}/config.json: expected a"),
        AerogelError(f"{os.path.realpath(folders['writer'])}: closed; {home}/x.py"),
        CheckpointError(f"{tmp_path}: broken"),
        OSError(2, "no such file", str(tmp_path)),
        RuntimeError(f"in {tmp_path}"),
    ):
        told = explainer.failure(error).message
        for secret in (folders["writer"], str(tmp_path), f"{home}/x.py"):
            assert secret not in told, told


def test_what_a_failure_inside_is_told_as(make, monkeypatch, caplog):
    app = make(["embedder"])

    async def broken(*_, **__):
        raise RuntimeError("secret")

    monkeypatch.setattr(app.service.scheduler, "embed", broken)
    found = post(app, "/embed", {"inputs": "a"})
    assert found.status == 424 and b"secret" not in found.body and "secret" in caplog.text
    assert post(app, "/v1/embeddings", {"input": "a"}).status == 500
    assert json.loads(post(app, "/", {"inputs": "a"}).body)["error_type"] == "Backend"

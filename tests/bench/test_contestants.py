"""What the benchmarks beside other servers are built of."""

import asyncio
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SERVER = """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status, answer = (500, b"no") if b"bad" in body else (200, b"<" + body + b">" * 100000)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print("some words", flush=True)
print("serving on", server.server_address[1], flush=True)
server.serve_forever()
"""

if not BENCHMARKS.is_dir():
    pytest.skip("no benchmarks beside the tests", allow_module_level=True)


@pytest.fixture
def contestants(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import contestants

    return contestants


@pytest.fixture
def server(contestants):
    found = contestants.Server("small", [sys.executable, "-c", SERVER], r"^serving on (\d+)")
    yield found
    found.end()


def test_every_client_gets_the_answers_of_its_own_bodies(contestants, server):
    server.__exit__()  # stopped until it is its turn
    bodies = [f"body {i}".encode() for i in range(7)]
    with server:
        found = asyncio.run(contestants.asked(server.port, "/", bodies, 3, 0.3))
    assert {number for number, _ in found.answers} == set(range(7))
    assert all(answer == b"<" + bodies[number] + b">" * 100000 for number, answer in found.answers)
    assert len(found.times) == len(found.answers) and found.seconds >= 0.3 and server.cpu_seconds() > 0


def test_what_is_not_answered_is_an_error(contestants, server):
    with pytest.raises(RuntimeError, match="not answered: .*500"):
        asyncio.run(contestants.asked(server.port, "/", [b"bad"], 1, 0.1))
    with pytest.raises(SystemExit, match="short: it ended with 0\nno port"):
        contestants.Server("short", [sys.executable, "-c", "print('no port')"], r"^serving on (\d+)")
    with pytest.raises(SystemExit, match="silent: it ended with -9"):
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        contestants.Server("silent", command, r"^serving on (\d+)", patience=0.2)


def test_the_queue_of_the_peer_answers_each_with_its_own(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import peer_server

    sizes = []

    class Model:
        def encode(self, texts, batch_size):
            sizes.append(len(texts))
            return np.array([[float(text)] for text in texts])

    async def all_of_them():
        queue = peer_server.Queue(Model(), wait=0.01, most=4)
        task = asyncio.create_task(queue.run())
        found = await asyncio.gather(*(queue.encode([str(i), str(-i)]) for i in range(5)))
        task.cancel()
        return found

    assert asyncio.run(all_of_them()) == [[[i], [-i]] for i in range(5)]
    assert sizes == [4, 4, 2]


def test_texts_of_exactly_so_many_tokens(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import serving_peers

    class Tokenizer:
        def encode(self, texts):  # a token a letter, but for "the"; two around each text
            lengths = [2 + sum(1 if word == "the" else len(word) for word in text.split()) for text in texts]
            return [[0] * length for length in lengths]

    model = types.SimpleNamespace(tokenizer=Tokenizer())
    words = "aaa bb ccccc d ee ffff".split()
    assert serving_peers.texts_of(model, words, 2, 8) == ["aaa bb the", "ccccc d"]
    with pytest.raises(SystemExit, match="more than these 6 words"):
        serving_peers.texts_of(model, words, 4, 8)


def test_a_stream_of_a_chat_is_read(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import chats_peers

    def event(delta, finish=None, **more):
        said = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
        return f"data: {json.dumps(said)}\n\n".encode()

    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    whole = event({"role": "assistant", "content": None}) + event({"content": "On"}) + event({"content": "ce"})
    whole += event({}, "length", usage=None) + f"data: {json.dumps(usage)}\n\ndata: [DONE]\n\n".encode()
    parts = [(10.0 + i, whole[i : i + 50]) for i in range(0, len(whole), 50)]
    chat = chats_peers._read(9.0, parts)
    assert (chat.text, chat.read, chat.written, chat.ended) == ("Once", 5, 2, "length")
    assert 0 < chat.first - 1.0 < len(whole)

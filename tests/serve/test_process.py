"""A server of its own, over real sockets: what it says, how it ends, and whom it does not wait for."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("uvicorn")
JSON = {"content-type": "application/json"}


@contextlib.contextmanager
def serving(*arguments):
    """A process that serves, and the address that it says."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "aerogel", "serve", "--port", "0", "--threads", "1", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        line = next((line for line in process.stderr if line.startswith("serving")), "")
        assert line, f"it ended: {process.wait()}"
        yield process, line.split(" on ")[1].strip()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def connected(address):
    host, _, port = address.removeprefix("http://").partition(":")
    return http.client.HTTPConnection(host, int(port), timeout=60)


def test_what_was_accepted_is_answered_before_the_end(folders):
    with serving(f"small={folders['embedder']}", f"llm={folders['writer']}") as (process, address):
        connection = connected(address)
        connection.request("GET", "/v1/models")
        names = [one["id"] for one in json.loads(connection.getresponse().read())["data"]]
        assert names == ["small", "llm"] and address.startswith("http://127.0.0.1:")
        # A client that goes in the middle of its answer: nothing is written for it any more.
        said = {"prompt": "a", "max_tokens": 200, "logit_bias": {"1": -1000}, "stream": True}
        gone = connected(address)
        gone.request("POST", "/v1/completions", json.dumps(said), JSON)
        assert gone.getresponse().read(6) == b"data: "
        gone.sock.shutdown(socket.SHUT_RDWR)
        gone.close()
        for _ in range(200):
            connection.request("GET", "/metrics")
            if b"te_queue_size 0.0" in connection.getresponse().read():
                break
            time.sleep(0.02)
        else:
            pytest.fail("the text that nobody reads is still written")
        connection.request("POST", "/v1/completions", json.dumps(said), JSON)
        answer = connection.getresponse()
        first = answer.read(6)
        process.send_signal(signal.SIGTERM)
        text = first + answer.read()
        assert text.endswith(b"data: [DONE]\n\n")
        assert process.wait(30) == 0
        with pytest.raises(OSError):
            socket.create_connection((connection.host, connection.port), 1)


def test_a_socket_of_its_own(make, tmp_path):
    from aerogel.errors import AerogelError
    from aerogel.serve.server import listening, run

    path = str(tmp_path / "s")
    stale, _ = listening("", 0, path)
    with pytest.raises(AerogelError, match="another server listens there"):
        listening("", 0, path)
    stale.close()  # and its file stays, as after kill -9
    where, address = listening("", 0, path)
    assert address == f"unix:{path}" and os.stat(path).st_mode & 0o777 == 0o600
    ready = threading.Event()
    threading.Thread(target=run, args=(make(["embedder"]), where, ready.set, 1.0), daemon=True).start()
    assert ready.wait(30)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"GET /health HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")
        assert client.recv(15) == b"HTTP/1.1 200 OK"
    with pytest.raises(AerogelError, match="cannot listen on"):
        listening("no.such.host.invalid", 1, None)


def test_those_who_say_nothing_are_sent_away(make):
    from aerogel.serve.server import listening, run

    where, address = listening("127.0.0.1", 0, None)
    ready = threading.Event()
    # No signals in this thread: it ends with the process of the tests, as a daemon.
    arguments = (make(["embedder"]), where, ready.set, 1.0, 0.2)
    threading.Thread(target=run, args=arguments, daemon=True).start()
    assert ready.wait(30)
    port = int(address.rpartition(":")[2])
    for said in (b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(said)
            found = b""
            while part := client.recv(1000):
                found += part
        assert bool(found) == said.endswith(b"\n\r\n")


def test_those_who_do_not_read_are_sent_away(make):
    from aerogel.serve.server import listening, run

    where, address = listening("127.0.0.1", 0, None)
    where.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ready = threading.Event()
    app = make(["embedder"], max_client_batch=2000)
    threading.Thread(target=run, args=(app, where, ready.set, 1.0, 10.0, 0.2), daemon=True).start()
    assert ready.wait(30)
    body = json.dumps({"inputs": ["a"] * 2000}).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.settimeout(60)
        client.connect(("127.0.0.1", int(address.rpartition(":")[2])))
        head = (
            f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        client.sendall(head.encode() + body)
        found = client.recv(1000)
        time.sleep(1)  # longer than the server waits for somebody to read on
        while part := client.recv(10_000):
            found += part
    length = int(found.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert found.startswith(b"HTTP/1.1 200") and len(found) < length

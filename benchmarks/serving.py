"""What serving costs: requests a second over HTTP beside `encode` in the same process, and JSON's share of a request.

    python benchmarks/serving.py MODEL [--clients 32] [--tokens 128] [--seconds 5] [--threads 2]

Clients each ask for one embedding at a time and wait for it. `encode` gets the same texts as one list, as many at a time as
there are clients. Both take turns; the figures are the best of each, as other work on the machine only takes away. On a busy
machine the CPU time of the server's process for a request, beside that of `encode` for a text, says more.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time

import numpy as np

import aerogel
from aerogel.serve.bodies import decoded, encoded
from aerogel.serve.shapes import EmbedRequest

HEADERS = {"content-type": "application/json"}


def text_of(model: aerogel.Model, tokens: int) -> str:
    """A text of about as many tokens."""
    word = " time"
    count = tokens - len(model.tokenizer.encode([""])[0])
    return (word * count).strip()


def ask_for(port: int, text: str, until: float, done: list[int], failed: list[str]) -> None:
    """One client: asks again and again until it is time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"inputs": text})
    count = 0
    while time.perf_counter() < until:
        connection.request("POST", "/embed", body, HEADERS)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            failed.append(str(answer.status))
        count += 1
    done.append(count)


def served(port: int, text: str, clients: int, seconds: float) -> float:
    """Requests a second."""
    done: list[int] = []
    failed: list[str] = []
    start = time.perf_counter()
    threads = [
        threading.Thread(target=ask_for, args=(port, text, start + seconds, done, failed)) for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(f"not answered: {failed[:5]}")
    return sum(done) / (time.perf_counter() - start)


def cpu_seconds(port: int) -> float:
    """What the server's process has used."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return float(next(line for line in lines if line.startswith("process_cpu_seconds_total")).split()[1])


def direct(model: aerogel.Model, text: str, clients: int, seconds: float) -> float:
    """Texts a second of `encode`."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        model.encode([text] * clients)
        count += clients
    return count / (time.perf_counter() - start)


def json_share(model: aerogel.Model, texts: int, tokens: int) -> tuple[float, float]:
    """Milliseconds of CPU for JSON, in and out, and for the embedding, of one request; medians."""
    batch = [text_of(model, tokens)] * texts
    body = json.dumps({"inputs": batch}).encode()
    rows = [np.ascontiguousarray(row) for row in model.encode(batch)]
    word, work = [], []
    for _ in range(7):
        start = time.process_time()
        decoded(body, EmbedRequest)
        encoded(rows)
        middle = time.process_time()
        model.encode(batch)
        word.append(1e3 * (middle - start))
        work.append(1e3 * (time.process_time() - middle))
    return statistics.median(word), statistics.median(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    said = parser.parse_args()
    model = aerogel.load(said.model, threads=said.threads)
    for tokens in (16, said.tokens):
        word, work = json_share(model, 64, tokens)
        print(f"64 texts of {tokens} tokens: JSON {word:.2f} ms, embedding {work:.1f} ms: {word / (word + work):.1%}")
    text = text_of(model, said.tokens)
    command = [sys.executable, "-m", "aerogel", "serve", said.model, "--port", "0", "--threads", str(said.threads)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        line = next(line for line in process.stderr or () if line.startswith("serving"))
        port = int(line.strip().rpartition(":")[2])
        pairs = []
        for _ in range(said.rounds):
            used, start = cpu_seconds(port), time.perf_counter()
            there = served(port, text, said.clients, said.seconds)
            used = 1e3 * (cpu_seconds(port) - used) / (there * (time.perf_counter() - start))
            own, start = time.process_time(), time.perf_counter()
            here = direct(model, text, said.clients, said.seconds)
            own = 1e3 * (time.process_time() - own) / (here * (time.perf_counter() - start))
            pairs.append((there, here))
            print(
                f"served {there:.1f} requests/s, {used:.2f} ms of CPU each; encode {here:.1f} texts/s, {own:.2f} ms each"
            )
        best = [max(column) for column in zip(*pairs, strict=True)]
        print(f"best: served {best[0]:.1f}, encode {best[1]:.1f}: {best[0] / best[1]:.2f}x")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()

"""Served embeddings beside what people write themselves: FastAPI, sentence-transformers and OpenVINO's int8.

    python benchmarks/peer_server.py FOLDER --export MODEL --calibrate sentences.txt      # with the peers' Python, once
    python benchmarks/serving_peers.py MODEL --texts prose.txt --peer FOLDER --peer-python PYTHON [--packed DIR]

`aerogel serve MODEL --quant int8`, a packed form of it if there is one, and both ways of `peer_server.py`, each a
process that is stopped while others have their turn. Clients, each with a connection of its own, ask for one text of
`--tokens` tokens at a time and wait for it: the same clients, the same texts, the same route for all. Every answer is
held against the float32 model: its cosine may not be less than `--cosine`. Those of the packed model, which is
another model, are held against what it gives in this process; how near it is to the float32 model is printed. The
faster of the peer's ways counts.

It ends with 1 where `--bar` times the peer's requests a second are not reached. On a busy machine look at the CPU
time of the server for a request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from pathlib import Path

import numpy as np

import aerogel
from contestants import Server, asked

HERE = Path(__file__).parent


def texts_of(model: aerogel.Model, words: list[str], count: int, tokens: int) -> list[str]:
    """Different texts of exactly so many tokens, of the words in their order."""
    around = len(model.tokenizer.encode([""])[0])
    lengths = [len(ids) - around for ids in model.tokenizer.encode(words)]
    texts, at = [], 0
    while len(texts) < count:
        text, left = [], tokens - around
        while left and at < len(words):
            fits = lengths[at] <= left
            text.append(words[at] if fits else "the")  # which is one token
            left -= lengths[at] if fits else 1
            at += fits
        if left:
            raise SystemExit(f"{count} texts of {tokens} tokens need more than these {len(words)} words")
        texts.append(" ".join(text))
    assert {len(ids) for ids in model.tokenizer.encode(texts)} == {tokens}
    return texts


def unit(rows: np.ndarray) -> np.ndarray:
    """Of length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def encoded(folder: str, texts: list[str]) -> np.ndarray:
    """What a model gives here."""
    with aerogel.load(folder) as model:
        return unit(np.asarray(model.encode(texts), np.float32))


class Contestant:
    """A server and its rounds.

    Args:
        rows: what its answers are held against.
        cosine: the least that they may have with those.
    """

    def __init__(self, server: Server, rows: np.ndarray, cosine: float) -> None:
        self.server, self.name, self.rows, self.least = server, server.name, rows, cosine
        self.rates: list[float] = []
        self.cpu: list[float] = []
        self.times: list[float] = []
        self.cosines: list[float] = []

    def run(self, bodies: list[bytes], clients: int, seconds: float, reference: np.ndarray | None = None) -> None:
        """A round; without the rows of the float32 model one that does not count."""
        with self.server:
            used = self.server.cpu_seconds()
            found = asyncio.run(asked(self.server.port, "/embed", bodies, clients, seconds))
            used = self.server.cpu_seconds() - used
        numbers = [number for number, _ in found.answers]
        given = unit(np.array([json.loads(body)[0] for _, body in found.answers], np.float32))
        least = (given * self.rows[numbers]).sum(axis=1).min()
        assert least > self.least, f"{self.name}: an answer has cosine {least:.4f} with what it should be"
        if reference is not None:
            self.cosines += (given * reference[numbers]).sum(axis=1).tolist()
            self.rates.append(len(found.times) / found.seconds)
            self.cpu.append(1e3 * used / len(found.times))
            self.times += found.times

    def line(self) -> str:
        """Of the table."""
        p50, p95 = 1e3 * np.percentile(self.times, (50, 95))
        rate = f"{statistics.median(self.rates):8.1f} requests/s ({min(self.rates):.1f} to {max(self.rates):.1f})"
        cosine = f"cosine at least {min(self.cosines):.4f}, mean {statistics.mean(self.cosines):.4f}"
        times = f"p50 {p50:6.1f} ms, p95 {p95:6.1f} ms, CPU {statistics.median(self.cpu):5.2f} ms"
        return f"{self.name:40} {rate}  {times}  {cosine}"


def ratio(ours: Contestant, theirs: Contestant) -> float:
    """Of requests a second, round by round."""
    return statistics.median(a / b for a, b in zip(ours.rates, theirs.rates, strict=True))


def started(said: argparse.Namespace, texts: list[str], reference: np.ndarray) -> list[Contestant]:
    """All of them, ours first."""
    threads = ["--threads", str(said.threads)]
    found = []

    def add(name: str, command: list[str], rows: np.ndarray, cosine: float) -> None:
        limits = {"OMP_NUM_THREADS": str(said.threads), "HF_HUB_OFFLINE": "1"}
        server = Server(name, command, r"^serving.*?(\d+)\s*$", environment=limits)
        server.__exit__()
        found.append(Contestant(server, rows, cosine))

    ours = [sys.executable, "-m", "aerogel", "serve", "--port", "0", *threads]
    try:
        add("aerogel, int8", [*ours, said.model, "--quant", "int8"], reference, said.cosine)
        for folder in said.packed:
            add(f"aerogel, {Path(folder).name}", [*ours, folder], encoded(folder, texts), 0.9999)
        for way in said.batching.split(","):
            peer = [said.peer_python, str(HERE / "peer_server.py"), said.peer, "--batching", way, *threads]
            add(f"sentence-transformers, OpenVINO, {way}", [*peer, "--wait", str(said.wait)], reference, said.cosine)
    except BaseException:
        for one in found:
            one.server.end()
        raise
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--texts", required=True, metavar="FILE", help="prose; the model's tokenizer cuts it")
    parser.add_argument("--packed", nargs="*", default=[])
    parser.add_argument("--peer", required=True, metavar="FOLDER", help="what peer_server.py has exported")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--batching", default="threads,queue")
    parser.add_argument("--wait", type=float, default=3.0, help="milliseconds of the peer's queue")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--count", type=int, default=256, help="texts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--cosine", type=float, default=0.98)
    parser.add_argument("--bar", type=float, default=2.0)
    said = parser.parse_args()
    with aerogel.load(said.model) as model:
        words = Path(said.texts).read_text(encoding="utf-8").split()
        texts = texts_of(model, words, said.count, said.tokens)
    bodies = [json.dumps({"inputs": text}).encode() for text in texts]
    reference = encoded(said.model, texts)
    contestants = started(said, texts, reference)
    try:
        for one in contestants:
            one.run(bodies, said.clients, min(2.0, said.seconds))
        for _ in range(said.rounds):
            for one in contestants:
                one.run(bodies, said.clients, said.seconds, reference)
    finally:
        for one in contestants:
            one.server.end()
    for one in contestants:
        print(one.line())
    ours = [one for one in contestants if one.name.startswith("aerogel")]
    peer = max((one for one in contestants if one not in ours), key=lambda one: statistics.median(one.rates))
    for one in ours:
        print(f"{one.name}: {ratio(one, peer):.2f} times the requests a second of {peer.name}")
    sys.exit(0 if ratio(ours[0], peer) >= said.bar else 1)


if __name__ == "__main__":
    main()

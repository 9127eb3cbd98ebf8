"""Many chats at once beside llama.cpp's `llama-server`: tokens a second of all together.

    python benchmarks/chats_peers.py FILE.gguf --llama-server PATH [--peer-file OTHER.gguf ...] [--chats 16]

`aerogel serve FILE` in int8 and with the file's own blocks, and llama-server with as many slots and continuous
batching, with the same file and with others that `--peer-file` names (int8's fair match: a Q8_0 that llama-quantize
made of it). Each a process that is stopped while others have their turn. In a turn all chats are asked for at the
same time, as streams, greedy, until every one has its `--tokens`. The prompts of a turn are the same for all, and
others in each turn, so that nothing has been read before.

All have to read the same number of tokens and write as many as they were asked for; texts of the same file have to
begin in the same way. The fastest of llama-server's files counts; it ends with 1 where int8 has not `--bar` times its
tokens a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from contestants import Server
from overload_clients import Connection

PROMPT = "Number {number}: tell a long story about {what}, with all that happened before and what became of everybody."
WHAT = (
    "a ship and the islands that its crew finds",
    "a lighthouse keeper who writes everything down",
    "two rivers that argue about the sea",
    "a train that goes through the mountains in winter",
    "a gardener in a city without rain",
    "an old bridge and those who cross it",
    "a baker who wakes before everyone else",
    "a school in a village at the end of a valley",
)


@dataclass
class Chat:
    """What came of one: seconds to its first text, its text, and the counts that the server gives."""

    first: float
    text: str
    read: int
    written: int
    ended: str


@dataclass
class Contestant:
    """A server and its turns."""

    server: Server
    rates: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    read: int = 0

    def turn(self, prompts: list[str], tokens: int, counts: bool) -> None:
        """All chats at once."""
        with self.server:
            used, begin = self.server.cpu_seconds(), time.perf_counter()
            chats = asyncio.run(_all(self.server.port, prompts, tokens))
            seconds, used = time.perf_counter() - begin, self.server.cpu_seconds() - used
        for chat in chats:
            said = f"{self.server.name}: {chat.written} tokens, ended for {chat.ended}"
            assert chat.written == tokens and chat.ended == "length", said
        if not counts:
            return
        self.read += sum(chat.read for chat in chats)
        self.texts += [chat.text for chat in chats]
        self.firsts += [chat.first for chat in chats]
        self.rates.append(len(chats) * tokens / seconds)
        self.cpu.append(1e3 * used / (len(chats) * tokens))

    def line(self) -> str:
        """Of the table."""
        rate = f"{statistics.median(self.rates):8.1f} tokens/s ({min(self.rates):.1f} to {max(self.rates):.1f})"
        first = f"first token p50 {np.percentile(self.firsts, 50):.2f} s, p95 {np.percentile(self.firsts, 95):.2f} s"
        return f"{self.server.name:44} {rate}  {first}  CPU {statistics.median(self.cpu):.2f} ms a token"


async def _all(port: int, prompts: list[str], tokens: int) -> list[Chat]:
    return await asyncio.gather(*(_chat(port, prompt, tokens) for prompt in prompts))


async def _chat(port: int, prompt: str, tokens: int) -> Chat:
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    begin = time.perf_counter()
    parts: list[tuple[float, bytes]] = []
    async with Connection(port) as connection:
        connection.send("/v1/chat/completions", json.dumps(body).encode())
        status, headers = await connection.head()
        if status != 200:
            raise SystemExit(f"not answered: {status} {await connection.body(headers)!r}")
        async for part in connection.parts():
            parts.append((time.perf_counter(), part))
    return _read(begin, parts)


def _read(begin: float, parts: list[tuple[float, bytes]]) -> Chat:
    """The events of a stream, when it is over: the clients share the processors."""
    chat = Chat(0.0, "", 0, 0, "")
    rest = b""
    for at, part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if event.get("usage"):
                chat.read, chat.written = event["usage"]["prompt_tokens"], event["usage"]["completion_tokens"]
            for choice in event["choices"]:
                text = choice["delta"].get("content") or ""
                if text and not chat.text:
                    chat.first = at - begin
                chat.text += text
                chat.ended = choice.get("finish_reason") or chat.ended
    return chat


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def started(said: argparse.Namespace) -> list[Contestant]:
    """All of them; aerogel's int8 is first."""
    threads = str(said.threads)
    found: list[Contestant] = []

    def add(name: str, command: list[str], ready: str) -> None:
        found.append(Contestant(Server(name, command, ready, {"OMP_NUM_THREADS": threads})))
        found[-1].server.__exit__()

    try:
        for quant in ("int8", ""):
            command = [sys.executable, "-m", "aerogel", "serve", said.file, "--port", "0", "--threads", threads]
            command += ["--quant", quant] if quant else []
            add(f"aerogel, {quant or 'the blocks of the file'}", command, r"^serving.*?(\d+)\s*$")
        for file in [said.file, *said.peer_file]:
            port, room = _free_port(), said.chats * said.room  # a port of its own: it does not say which 0 became
            command = [said.llama_server, "-m", file, "--host", "127.0.0.1", "--port", str(port), "-t", threads]
            command += ["-tb", threads, "-np", str(said.chats), "-cb", "-c", str(room), *said.llama_options.split()]
            add(f"llama-server, {Path(file).name}", command, r"listening on http\S*:(\d+)")
    except BaseException:
        for one in found:
            one.server.end()
        raise
    return found


def checked(contestants: list[Contestant], file: str) -> None:
    """The same prompts and, of the same file, texts that begin in the same way."""
    reads = {one.server.name: one.read for one in contestants}
    assert len(set(reads.values())) == 1, f"not the same prompts: {reads}"
    first = contestants[0]
    for one in contestants[1:]:
        pairs = zip(first.texts, one.texts, strict=True)
        same = [len(os.path.commonprefix(pair)) for pair in pairs]
        print(f"{one.server.name}: {statistics.median(same):.0f} characters as int8's, in the median")
        if one.server.name.endswith(Path(file).name):
            assert statistics.median(same) > 0, f"{first.texts[0][:80]!r} and {one.texts[0][:80]!r}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--llama-server", required=True, metavar="PATH")
    parser.add_argument("--peer-file", nargs="*", default=[])
    parser.add_argument("--llama-options", default="", help="more of them, in one string")
    parser.add_argument("--chats", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128, help="that each writes")
    parser.add_argument("--room", type=int, default=512, help="tokens of a slot of llama-server")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bar", type=float, default=1.5)
    said = parser.parse_args()
    contestants = started(said)
    try:
        for turn in range(said.rounds + 1):
            what = [WHAT[number % len(WHAT)] for number in range(said.chats)]
            prompts = [
                PROMPT.format(number=said.chats * turn + number, what=story) for number, story in enumerate(what)
            ]
            for one in contestants:
                one.turn(prompts, said.tokens if turn else 8, counts=turn > 0)
    finally:
        for one in contestants:
            one.server.end()
    checked(contestants, said.file)
    for one in contestants:
        print(one.line())
    ours, peers = contestants[:2], contestants[2:]
    best = max(peers, key=lambda one: statistics.median(one.rates))
    ratios = [statistics.median(a / b for a, b in zip(one.rates, best.rates, strict=True)) for one in ours]
    for one, ratio in zip(ours, ratios, strict=True):
        print(f"{one.server.name}: {ratio:.2f} times the tokens a second of {best.server.name}")
    sys.exit(0 if ratios[0] >= said.bar else 1)


if __name__ == "__main__":
    main()

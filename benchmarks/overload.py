"""A server under twice what it can do: whether each answer is right, in time, and memory stays where it is.

    python benchmarks/overload.py NAME=MODEL [NAME=MODEL ...] [--seconds 600] [--timeout 10] [--threads 2] [--quant int8]

Starts `aerogel serve`, finds what it can do with `--clients` clients that wait for their answers, and then sends twice as
many requests a second, of the same mix, waiting for nobody: embeddings of one text and of several, of 3 to 250 tokens;
rerank; chats as streams, some read at a trickle; clients that go in the middle; bodies without sense; headers without end.
After a tenth of the time the server is killed (kill -9) and started again. Each answer is compared with what the same model
gives in this process. It ends with 1 if an answer was lost, wrong, of somebody else, later than `--timeout` (and a step or
two), if memory grew, or if anything was left in the server's queue.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import aerogel
from aerogel.serve.catalog import entry_of
from overload_clients import (
    CUT,
    GONE,
    LATE,
    REFUSED,
    RIGHT,
    Question,
    Wrong,
    bad_headers,
    dropped,
    get,
    malformed,
    plain,
    stream,
)

#: Of 100 requests, how many are of each kind.
MIX = {
    "short text": 40,
    "long text": 18,
    "several texts": 10,
    "rerank": 8,
    "chat": 12,
    "chat, slow reader": 3,
    "gone before the answer": 3,
    "chat, gone in the middle": 3,
    "body without sense": 2,
    "headers without end": 1,
}
#: Seconds beyond the deadline until somebody is told so: the step that runs, and waiting for a turn of the processor.
SLACK = 2.0
#: Memory may grow by so much between the first and the last quarter.
GROWTH = 1.05
WORDS = "river stone light house green field morning train paper winter music road glass garden seven quiet".split()


def texts_of(count: int, longest: int) -> list[str]:
    """Different texts; lengths from 1 to about so many words."""
    chance = random.Random(0)
    return [f"{i} " + " ".join(chance.choices(WORDS, k=1 + i * longest // count)) for i in range(count)]


class Questions:
    """Questions and their right answers, from the models in this process."""

    def __init__(self, models: dict[str, str], quant: str | None, threads: int, longest: int, new_tokens: int) -> None:
        self.of: dict[str, list[Question]] = collections.defaultdict(list)
        for name, path in models.items():
            gives = entry_of(name, path).gives
            with aerogel.load(path, quant=quant, threads=threads) as model:
                if "embedding" in gives:
                    self._embeddings(name, model, longest)
                elif "rank" in gives:
                    self._ranks(name, model, longest)
                elif "generate" in gives:
                    self._chats(name, model, new_tokens)
        self.of["gone before the answer"] = [*self.of["long text"], *self.of["several texts"], *self.of["rerank"]]
        self.of["chat, slow reader"] = self.of["chat, gone in the middle"] = self.of["chat"]

    def _embeddings(self, name: str, model: aerogel.Model, longest: int) -> None:
        texts = texts_of(120, longest)
        rows = model.encode(texts, normalize=True)
        for i, text in enumerate(texts):
            kind = "short text" if i < 24 else "long text"
            said = {"model": name, "inputs": text}
            self.of[kind].append(Question(kind, "/embed", said, rows[i : i + 1]))
        for _ in range(60):
            some = random.choices(range(len(texts)), k=random.randint(2, 12))
            said = {"model": name, "inputs": [texts[i] for i in some]}
            self.of["several texts"].append(Question("several texts", "/embed", said, rows[some]))

    def _ranks(self, name: str, model: aerogel.Model, longest: int) -> None:
        texts = texts_of(40, longest // 2)
        for i in range(30):
            some = random.sample(texts, random.randint(2, 8))
            scores = np.asarray(model.predict([(f"question {i}", text) for text in some])).reshape(-1)
            said = {"model": name, "query": f"question {i}", "texts": some}
            self.of["rerank"].append(Question("rerank", "/rerank", said, scores))

    def _chats(self, name: str, model: aerogel.Model, new_tokens: int) -> None:
        for i in range(16):
            talk = [{"role": "user", "content": f"Count from {i} upwards, then tell of a {WORDS[i]}."}]
            said = {"model": name, "messages": talk, "max_tokens": new_tokens, "temperature": 0, "stream": True}
            self.of["chat"].append(Question("chat", "/v1/chat/completions", said, model.chat(talk, new_tokens)))

    def mix(self) -> dict[str, int]:
        """The kinds that these models can do."""
        free = ("body without sense", "headers without end")
        return {kind: share for kind, share in MIX.items() if kind in free or self.of[kind]}


class Server:
    """The process, at one port."""

    def __init__(self, command: list[str]) -> None:
        self._command, self.port = command, 0

    def start(self) -> float:
        """Seconds until it listens."""
        begin = time.perf_counter()
        command = [*self._command, "--port", str(self.port)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
        assert self.process.stderr is not None
        line = next((line for line in self.process.stderr if line.startswith("serving")), "")
        if not line:
            raise SystemExit(f"the server ended: {self.process.wait()}")
        self.port = int(line.strip().rpartition(":")[2])
        return time.perf_counter() - begin

    def resident(self) -> float:
        """MB in memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def files(self) -> int:
        """Open files, sockets among them."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


class Load:
    """Requests and what has become of them."""

    def __init__(self, server: Server, questions: Questions) -> None:
        self.server, self.questions, self.mix = server, questions, questions.mix()
        self.life = 0  # how often the server was killed
        self.times: dict[str, list[float]] = collections.defaultdict(list)
        self.counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.faults: list[str] = []
        self.most = self.now = 0

    def choose(self) -> str:
        """A kind, by its share."""
        return random.choices(list(self.mix), weights=list(self.mix.values()))[0]

    async def one(self, kind: str) -> None:
        """A request of that kind, and its place in the table."""
        life, start = self.life, time.perf_counter()
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            outcome = await asyncio.wait_for(self._ask(kind), 120)
        except (Wrong, OSError, EOFError, ValueError, KeyError, asyncio.TimeoutError) as error:
            cut = isinstance(error, (OSError, EOFError)) and (self.life != life or self.life % 2)
            outcome = CUT if cut else "wrong"
            if not cut:
                self.faults.append(f"{kind}: {type(error).__name__} {error}")
                print("FAULT", self.faults[-1], flush=True)
        finally:
            self.now -= 1
        self.counts[kind][outcome] += 1
        if outcome in (RIGHT, LATE, REFUSED):
            self.times[f"{kind}/{outcome}"].append(time.perf_counter() - start)

    async def _ask(self, kind: str) -> str:
        port = self.server.port
        if kind == "body without sense":
            return await malformed(port)
        if kind == "headers without end":
            return await bad_headers(port)
        question = random.choice(self.questions.of[kind])
        if kind == "gone before the answer":
            return await dropped(port, question)
        if kind == "chat, gone in the middle":
            return await stream(port, question, leave=random.choice((0, 1, 4)))
        if kind.startswith("chat"):
            return await stream(port, question, trickle=0.3 if "slow" in kind else 0.0)
        return await plain(port, question)

    async def capacity(self, clients: int, seconds: float) -> float:
        """Requests a second that it can do, for clients that wait for their answers."""
        end, done = time.perf_counter() + seconds, 0

        async def client() -> None:
            nonlocal done
            while time.perf_counter() < end:
                kind = self.choose()
                if "slow" not in kind and "headers" not in kind:  # they wait for themselves
                    await self.one(kind)
                done += 1

        start = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return done / (time.perf_counter() - start)

    async def arrivals(self, speed: float, seconds: float) -> None:
        """So many requests a second, whatever becomes of them."""
        tasks: set[asyncio.Task[None]] = set()
        due, end = time.perf_counter(), time.perf_counter() + seconds
        while due < end:
            due += random.expovariate(speed)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self.one(self.choose()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def killed(self, after: float) -> float:
        """Kills the server in the middle, and starts it again: seconds until it listens."""
        await asyncio.sleep(after)
        self.life += 1  # odd: it is not there
        self.server.process.send_signal(signal.SIGKILL)
        self.server.process.wait()
        seconds = await asyncio.to_thread(self.server.start)
        self.life += 1
        return seconds

    async def watched(self, sizes: list[float]) -> None:
        """Notes the server's memory, until it is cancelled."""
        while True:
            await asyncio.sleep(0.25)
            sizes.append(self.server.resident())

    def table(self) -> str:
        """What became of each kind."""
        columns = (RIGHT, REFUSED, LATE, GONE, CUT, "wrong")
        lines = [f"{'':26}" + "".join(f"{name:>17}" for name in columns) + "    p50    p99    max of the right, s"]
        for kind in self.mix:
            line = f"{kind:26}" + "".join(f"{self.counts[kind][name]:17}" for name in columns)
            if times := self.times[f"{kind}/{RIGHT}"]:
                line += "".join(f"{value:7.2f}" for value in (*np.percentile(times, (50, 99)), max(times)))
            lines.append(line)
        return "\n".join(lines)


def bounded(load: Load, timeout: float) -> list[str]:
    """What was later than it may be; who reads slowly, or sends headers slowly, has himself to wait for."""
    faults = []
    for name, times in load.times.items():
        own = "slow" in name or "headers" in name
        if times and not own and (slow := np.percentile(times, 99)) > timeout + SLACK:
            faults.append(f"{name}: p99 {slow:.2f} s, the deadline is {timeout} s")
    return faults


async def left(server: Server) -> list[str]:
    """What is still there when nobody asks for anything any more."""
    for _ in range(100):
        await asyncio.sleep(0.1)
        lines = (await get(server.port, "/metrics")).decode().splitlines()
        found = [line for line in lines if line.startswith(("te_queue_size", "aerogel_kv_bytes"))]
        if not any(float(line.split()[-1]) for line in found):
            return []
    return [f"left behind: {line}" for line in found]


async def measured(said: argparse.Namespace, server: Server, questions: Questions) -> list[str]:
    """Runs it all; the faults."""
    print(f"started in {server.start():.1f} s")
    load = Load(server, questions)
    await load.capacity(said.clients, said.seconds / 100)  # models are loaded
    speed = await load.capacity(said.clients, max(2.0, said.seconds / 40))
    faults, files = load.faults, server.files()
    load = Load(server, questions)
    load.faults = faults
    print(f"{said.clients} clients: {speed:.1f} requests/s; now {said.over * speed:.1f} for {said.seconds:.0f} s")
    kill = asyncio.create_task(load.killed(said.seconds / 10))
    first = asyncio.create_task(load.arrivals(said.over * speed, said.seconds))
    print(f"killed, and there again after {await kill:.1f} s")
    sizes: list[float] = []
    watch = asyncio.create_task(load.watched(sizes))
    await first
    watch.cancel()
    print(load.table())
    print(f"at most {load.most} requests at once; open files {files} before, {server.files()} after")
    faults += bounded(load, said.timeout) + await left(server)
    quarter = max(1, len(sizes) // 4)
    begin, end = (float(np.median(part)) for part in (sizes[:quarter], sizes[-quarter:]))
    print(f"memory: {begin:.0f} MB in the first quarter, {end:.0f} in the last, at most {max(sizes):.0f}")
    if said.seconds >= 120 and end > GROWTH * begin:
        faults.append(f"memory grew from {begin:.0f} to {end:.0f} MB")
    missing = [kind for kind in load.mix if not load.counts[kind][RIGHT] + load.counts[kind][GONE]]
    faults += [f"{kind}: none was answered" for kind in missing if said.seconds >= 120]
    server.process.terminate()
    if (code := server.process.wait(60)) != 0:
        faults.append(f"SIGTERM: it ended with {code}")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--over", type=float, default=2.0, help="times of what it can do")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--concurrent", type=int, default=64, help="requests that the server takes at once")
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quant", default="int8", help="int8: answers do not depend on who else is there")
    parser.add_argument("--longest", type=int, default=240, help="words of a text")
    parser.add_argument("--new-tokens", type=int, default=24, help="of a chat")
    said = parser.parse_args()
    models = dict(one.split("=", 1) for one in said.models)
    questions = Questions(models, said.quant, said.threads, said.longest, said.new_tokens)
    limits = ["--timeout", str(said.timeout), "--max-concurrent-requests", str(said.concurrent)]
    command = [sys.executable, "-m", "aerogel", "serve", *said.models, *limits]
    server = Server([*command, "--threads", str(said.threads), "--quant", said.quant])
    try:
        faults = asyncio.run(measured(said, server, questions))
    finally:
        server.process.kill()
        server.process.wait()
    for fault in faults[:20]:
        print("FAULT", fault)
    print(f"{len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()

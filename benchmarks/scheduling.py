"""What a scheduler costs and gives: throughput beside `encode`, a short text beside long batches, many chats beside one.

    python benchmarks/scheduling.py --encoder FOLDER --chat FILE [--threads 2] [--seconds 5] [--rounds 3] [--cpu]

A and B take turns in one process, `--rounds` times; the median of the rounds is printed with their range. With `--cpu` all
times are the process's own processor time, which neighbours on a busy machine hardly change: for `--threads 1`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import numpy as np

import aerogel

SHORT = "a short question about the weather in spring"
#: What is measured by; `--cpu` makes it the processor's.
clock = time.perf_counter
PROMPT = "Tell a long story about a ship, its crew and the islands that they find."


def texts_of(model: aerogel.Model, count: int, tokens: int) -> list[str]:
    """Texts of `tokens` tokens each, all of them different."""
    words = "river stone light house green field morning train paper winter music road glass garden".split()
    random = np.random.default_rng(0)
    found = []
    for _ in range(count):
        text = " ".join(random.choice(words, tokens))
        ids = model.tokenizer.encode([text], tokens)[0]
        found.append(model.tokenizer.decode(ids))
    return found


async def clients(scheduler: aerogel.Scheduler, texts: list[str], seconds: float) -> float:
    """Requests a second of as many clients as there are texts, each with one request after another."""
    end, done = clock() + seconds, 0

    async def client(text: str) -> None:
        nonlocal done
        while clock() < end:
            await scheduler.embed("encoder", [text])
            done += 1

    start = clock()
    await asyncio.gather(*map(client, texts))
    return done / (clock() - start)


def encodes(model: aerogel.Model, texts: list[str], seconds: float) -> float:
    """Texts a second of `encode` over all of them."""
    start, done = clock(), 0
    while clock() - start < seconds:
        model.encode(texts)
        done += len(texts)
    return done / (clock() - start)


async def short_beside_long(scheduler: aerogel.Scheduler, long: list[str], seconds: float) -> list[float]:
    """Seconds of short requests, one each 50 ms or so, while somebody embeds long batches without a pause."""
    times: list[float] = []
    ended = asyncio.Event()

    async def batches() -> None:
        while not ended.is_set():
            await scheduler.embed("encoder", long)

    other = asyncio.create_task(batches())
    random, end = np.random.default_rng(1), clock() + seconds
    while clock() < end:
        again = clock() + random.uniform(0.03, 0.07)
        while clock() < again:
            await asyncio.sleep(0.001)
        start = clock()
        await scheduler.embed("encoder", [SHORT], prompt="")
        times.append(clock() - start)
    ended.set()
    await other
    return times


async def chats(scheduler: aerogel.Scheduler, count: int, tokens: int) -> float:
    """Tokens a second of so many chats at once."""

    async def chat(number: int) -> int:
        message = [{"role": "user", "content": f"{PROMPT} Number {number}."}]
        written = 0
        async for piece in scheduler.generate("chat", message, max_new_tokens=tokens, stop_ids=[]):
            written = piece.new_tokens
        return written

    start = clock()
    written = await asyncio.gather(*map(chat, range(count)))
    return sum(written) / (clock() - start)


def said(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):9.1f} {unit} ({min(values):.1f} to {max(values):.1f})"


async def encoder_part(model: aerogel.Model, seconds: float, rounds: int) -> None:
    steps: list[float] = []
    waited: list[int] = []
    options = aerogel.SchedulerOptions(
        clock=clock,
        on_step=lambda step: steps.append(step.seconds),
        on_finished=lambda one: waited.append(one.steps_waited) if one.texts == 1 else None,
    )
    scheduler = aerogel.Scheduler({"encoder": model}, options)
    texts = texts_of(model, 32, 128)
    await clients(scheduler, texts, 1.0)
    pairs = [(encodes(model, texts, seconds), await clients(scheduler, texts, seconds)) for _ in range(rounds)]
    print("32 texts of 128 tokens")
    print("  encode            ", said([a for a, _ in pairs], "texts/s"))
    print("  32 clients        ", said([b for _, b in pairs], "requests/s"))
    print(f"  ratio              {statistics.median(b / a for a, b in pairs):9.2f}")
    long = texts_of(model, 64, 256)
    steps.clear()
    waited.clear()
    times: list[float] = []
    for _ in range(rounds):
        times += await short_beside_long(scheduler, long, seconds)
    print(f"a short text while batches of 64 x 256 tokens run ({len(times)} of them)")
    for share in (50, 95, 99):
        print(f"  p{share:<2}               {1000 * np.percentile(times, share):9.1f} ms")
    print(f"  steps of others    {max(waited):9d} at most, p95 {np.percentile(waited, 95):.1f}")
    print(f"  a step             {1000 * np.percentile(steps, 50):9.1f} ms, p95 {1000 * np.percentile(steps, 95):.1f}")
    scheduler.close()


async def chat_part(model: aerogel.Model, count: int, tokens: int, rounds: int) -> None:
    scheduler = aerogel.Scheduler({"chat": model}, aerogel.SchedulerOptions(clock=clock))
    await chats(scheduler, 1, 8)
    pairs = []
    for _ in range(rounds):
        pairs.append((await chats(scheduler, 1, tokens), await chats(scheduler, count, tokens)))
    print(f"chats of {tokens} new tokens")
    print("  one               ", said([a for a, _ in pairs], "tokens/s"))
    print(f"  {count:<18}", said([b for _, b in pairs], "tokens/s"))
    print(f"  ratio              {statistics.median(b / a for a, b in pairs):9.2f}")
    scheduler.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", help="an embedding model")
    parser.add_argument("--chat", help="a language model with a chat template")
    parser.add_argument("--quant", default="int8")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chats", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--cpu", action="store_true", help="measure processor time")
    given = parser.parse_args()
    if given.cpu:
        global clock
        clock = time.process_time
    if given.encoder:
        model = aerogel.load(given.encoder, threads=given.threads, quant=given.quant)
        asyncio.run(encoder_part(model, given.seconds, given.rounds))
    if given.chat:
        model = aerogel.load(given.chat, threads=given.threads, quant=given.quant)
        asyncio.run(chat_part(model, given.chats, given.tokens, given.rounds))


if __name__ == "__main__":
    main()

"""With the scheduler's own thread: many tasks, several event loops, hooks that fail, and the end."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

import aerogel

from .driving import text_of, written

TEXTS = [f"{a} {b} {c}" for a in ("the", "a") for b in ("big", "small", "red") for c in ("cat", "dog", "tree", "mat")]


def test_many_tasks_of_several_loops(bert, llama):
    alone = bert.encode(TEXTS)
    told = llama.generate("good day", 8)
    scheduler = aerogel.Scheduler({"bert": bert, "llama": llama})
    wrong = []

    async def client(number):
        for i in range(number, len(TEXTS), 4):
            [found] = await scheduler.embed("bert", [TEXTS[i]])
            if not np.array_equal(found.values, alone[i]):
                wrong.append(i)
        if text_of(await written(scheduler, "llama", "good day", max_new_tokens=8)) != told:
            wrong.append(number)

    async def clients():
        await asyncio.gather(*map(client, range(4)))

    threads = [threading.Thread(target=lambda: asyncio.run(clients())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and scheduler.metrics.ended == {"done": 3 * (len(TEXTS) + 4)}
    scheduler.close()
    scheduler.close()


def test_a_close_fails_what_is_not_answered(llama):
    async def main():
        scheduler = aerogel.Scheduler({"llama": llama})
        pieces = scheduler.generate("llama", "good day", max_new_tokens=200, stop_ids=[])
        await anext(pieces)
        await asyncio.to_thread(scheduler.close)
        with pytest.raises(aerogel.AerogelError, match="closed"):
            async for _ in pieces:
                pass
        with pytest.raises(aerogel.OverloadedError):
            await written(scheduler, "llama", "x")
        assert scheduler.metrics.queued == 0

    asyncio.run(main())


def test_a_hook_that_fails_is_logged_only(bert, caplog):
    def hook(what):
        raise ValueError("the hook's")

    async def main():
        scheduler = aerogel.Scheduler({"bert": bert}, aerogel.SchedulerOptions(on_step=hook, on_finished=hook))
        await scheduler.embed("bert", TEXTS[:1])
        scheduler.close()

    asyncio.run(main())
    assert "a hook of the scheduler has failed" in caplog.text


def test_models_are_loaded_once_and_closed_when_memory_is_short(bert_folder):
    loads = []

    def loader(name):
        def load():
            loads.append(name)
            if len(loads) == 1:
                raise aerogel.AerogelError("not now")
            return aerogel.load(bert_folder, threads=1)

        return load

    async def main():
        options = aerogel.SchedulerOptions(max_model_bytes=100_000)
        scheduler = aerogel.Scheduler({"a": loader("a"), "b": loader("b")}, options)
        with pytest.raises(aerogel.AerogelError, match="not now"):
            await scheduler.embed("a", ["a cat"])
        await asyncio.gather(*(scheduler.embed("a", ["a cat"]) for _ in range(5)))
        first = scheduler.models["a"]
        assert loads == ["a", "a"] and scheduler.models["b"] is None
        await scheduler.embed("b", ["a cat"])
        assert loads == ["a", "a", "b"] and first.closed and scheduler.models["a"] is None
        await scheduler.embed("a", ["a cat"])
        assert scheduler.models["b"] is None
        with pytest.raises(aerogel.AerogelError, match="expected one of a, b"):
            await scheduler.embed("c", ["a cat"])
        scheduler.close()

    asyncio.run(main())
    for wrong in ({}, {"a": 3}):
        with pytest.raises(aerogel.AerogelError):
            aerogel.Scheduler(wrong)

"""Schedulers that a test drives by hand, step by step."""

from __future__ import annotations

import asyncio

import aerogel


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Driven:
    """A scheduler without a thread, and what it has told.

    Attributes:
        steps: every `Step`.
        finished: every `Finished`.
    """

    def __init__(self, models, **options):
        self.steps, self.finished, self.clock = [], [], Clock()
        given = {"step_seconds": None, "clock": self.clock, **options}
        hooks = {"on_step": self.steps.append, "on_finished": self.finished.append}
        self.scheduler = aerogel.Scheduler(models, aerogel.SchedulerOptions(thread=False, **hooks, **given))

    async def submit(self, *calls):
        """Tasks of the calls, each let in (or refused) before the next is made."""
        return [await self._submit(call) for call in calls]

    async def _submit(self, call):
        metrics = self.scheduler.metrics
        before = metrics.accepted + metrics.refused
        task = asyncio.create_task(call)
        while metrics.accepted + metrics.refused == before and not task.done():
            await asyncio.sleep(0)
        await settled()
        return task

    async def until(self, *tasks):
        """Steps until they are done; their results."""
        while not all(task.done() for task in tasks):
            self.scheduler.step()
            await settled()
        return [task.result() for task in tasks]

    async def run(self, *calls):
        """All at once, to their ends."""
        return await self.until(*await self.submit(*calls))


async def settled():
    """Lets the event loop do what it can."""
    for _ in range(4):
        await asyncio.sleep(0)


async def written(scheduler, *arguments, **options):
    """All pieces of a text."""
    return [piece async for piece in scheduler.generate(*arguments, **options)]


def text_of(pieces):
    return "".join(piece.text for piece in pieces)

"""Whatever comes, goes and is cancelled in whatever order: every answer is the one to its question."""

from __future__ import annotations

import asyncio

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .driving import Driven, settled, text_of, written

WORDS = ["cat", "dog", "tree", "mat", "red", "big"]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), min_size=1, max_size=6)
prompts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=20).map(" ".join)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("embed"), texts, st.integers(0, 1)),
        st.tuples(st.just("write"), prompts, st.integers(0, 3)),
        st.tuples(st.just("step"), st.integers(1, 3), st.none()),
        st.tuples(st.just("cancel"), st.integers(0, 9), st.none()),
    ),
    min_size=3,
    max_size=16,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions, st.integers(8, 120))
def test_no_answer_is_crossed(bert, llama, found, most):
    options = {"max_new_tokens": 4, "temperature": 1.0, "stop_ids": []}

    async def main():
        own = Driven({"bert": bert, "llama": llama}, max_batch_tokens=most)
        tasks = []
        for kind, what, number in found:
            if kind == "embed":
                [task] = await own.submit(own.scheduler.embed("bert", what, priority=number))
                tasks.append((task, kind, what, number))
            elif kind == "write":
                [task] = await own.submit(written(own.scheduler, "llama", what, seed=number, **options))
                tasks.append((task, kind, what, number))
            elif kind == "step":
                for _ in range(what):
                    own.scheduler.step()
                    await settled()
            elif tasks:
                tasks.pop(what % len(tasks))[0].cancel()
                await settled()
        await own.until(*(task for task, *_ in tasks))
        own.scheduler.step()
        metrics = own.scheduler.metrics
        assert metrics.queued == metrics.queued_tokens == metrics.kv_bytes == 0
        assert metrics.accepted == sum(metrics.ended.values()) == len(own.finished)
        return tasks

    for task, kind, what, number in asyncio.run(main()):
        if kind == "embed":
            np.testing.assert_array_equal(np.stack([one.values for one in task.result()]), bert.encode(what))
        else:
            assert text_of(task.result()) == llama.generate(what, seed=number, **options)

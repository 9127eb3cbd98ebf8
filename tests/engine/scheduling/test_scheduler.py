"""Requests through a scheduler that the test drives: answers, turns, bounds, ends."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import aerogel
from aerogel.engine.generation.writer import Writer

from .driving import Driven, settled, text_of, written

TEXTS = ["the cat sat on the mat", "a big red dog ran", "", "not under the tree", "the blue cat and the small dog " * 9]


def vectors(answers):
    return np.stack([one.values for one in answers])


def test_answers_are_those_of_the_model_alone(bert, headed):
    terms, pairs = headed("BertForMaskedLM"), headed("BertForSequenceClassification")
    classes = headed("BertForSequenceClassification", 3)
    both = [(TEXTS[0], text) for text in TEXTS]

    async def main():
        own = Driven({"bert": bert, "terms": terms, "pairs": pairs, "classes": classes}, max_batch_tokens=40)
        call = own.scheduler
        return await own.run(
            call.embed("bert", TEXTS),
            call.embed("bert", TEXTS, normalize=False, dimensions=8, prompt="the "),
            call.embed("bert", TEXTS, kind="tokens"),
            call.embed("terms", TEXTS, kind="sparse", dimensions=5),
            call.score("pairs", both),
            call.score("pairs", both, raw_scores=True),
            call.score("classes", TEXTS),
            call.embed("bert", []),
        )

    whole, short, tokens, sparse, ranks, raw, labels, none = asyncio.run(main())
    np.testing.assert_array_equal(vectors(whole), bert.encode(TEXTS))
    np.testing.assert_array_equal(vectors(short), bert.encode(TEXTS, normalize=False, truncate_dim=8, prompt="the "))
    for found, wanted in zip(tokens, bert.token_embeddings(TEXTS), strict=True):
        np.testing.assert_array_equal(found.values, wanted)
    wanted = terms.encode_sparse(TEXTS, max_active_dims=5)
    for i, found in enumerate(sparse):
        np.testing.assert_array_equal(found.terms, wanted.row(i)[0])
        np.testing.assert_array_equal(found.values, wanted.row(i)[1])
    np.testing.assert_array_equal(vectors(ranks)[:, 0], pairs.predict(both))
    np.testing.assert_array_equal(vectors(raw), pairs.scores([a for a, _ in both], [b for _, b in both]))
    np.testing.assert_allclose(vectors(labels).sum(1), 1, rtol=1e-6)
    logits = classes.scores(TEXTS)
    np.testing.assert_array_equal(vectors(labels).argmax(1), logits.argmax(1))
    assert none == [] and [one.tokens for one in whole] == [8, 7, 2, 6, 32]


def test_texts_are_those_of_the_model_alone(llama):
    """Many at once, more than have places, prompts read in parts beside others that are written."""
    prompts = [
        "good day",
        "x",
        "a long prompt, " * 9,
        "a long prompt, " * 9 + "again",
        *(f"number {i}" for i in range(61)),
    ]
    options = {"max_new_tokens": 6, "temperature": 0.8, "seed": 5, "stop_ids": []}

    async def main():
        own = Driven({"llama": llama}, max_batch_tokens=400)
        found = await own.run(*(written(own.scheduler, "llama", one, **options) for one in prompts))
        return own, found

    own, found = asyncio.run(main())
    assert [text_of(pieces) for pieces in found] == [llama.generate(one, **options) for one in prompts]
    assert all(pieces[-1].finish_reason == "length" and pieces[-1].new_tokens == 6 for pieces in found)
    assert max(step.sequences["llama"] for step in own.steps) == 64
    metrics = own.scheduler.metrics
    assert metrics.kv_bytes == metrics.queued_tokens == metrics.queued == 0
    assert metrics.new_tokens == {"llama": 6 * len(prompts)}


def test_pieces_have_what_a_completion_has(llama):
    options = {"max_new_tokens": 12, "logprobs": 2, "seed": 3, "temperature": 1.0}
    wanted = llama.complete("good day", **options)
    stop = wanted.text[4:6]

    async def main():
        own = Driven({"llama": llama})
        call = own.scheduler
        return await own.run(
            written(call, "llama", "good day", **options),
            written(call, "llama", llama.tokenizer.encode(["good day"])[0], stop=stop, **options),
            written(call, "llama", [{"role": "user", "content": "hm"}], template="chatml", max_new_tokens=3),
            written(call, "llama", "good day", max_new_tokens=0),
        )

    pieces, stopped, chat, nothing = asyncio.run(main())
    assert text_of(pieces) == wanted.text
    assert tuple(token for piece in pieces for token in piece.token_ids) == wanted.token_ids
    assert tuple(one for piece in pieces for one in piece.logprobs) == wanted.logprobs
    assert text_of(stopped) == wanted.text[: wanted.text.index(stop)]
    assert (stopped[-1].finish_reason, stopped[-1].stop) == ("stop", stop)
    assert text_of(chat) == llama.chat([{"role": "user", "content": "hm"}], 3, template="chatml")
    assert [piece.finish_reason for piece in nothing] == ["length"]


def test_a_short_text_waits_for_two_steps_at_most(bert):
    async def main():
        own = Driven({"bert": bert}, max_batch_tokens=64)
        long = await own.submit(*(own.scheduler.embed("bert", [TEXTS[4]] * 64) for _ in range(4)))
        short = []
        for _ in range(10):
            own.scheduler.step()
            short += await own.submit(own.scheduler.embed("bert", ["a cat"]))
        steps = len(own.steps)
        await own.until(*short)
        assert len(own.steps) == steps + 1 and not any(task.done() for task in long)
        await own.until(*long)
        return own

    own = asyncio.run(main())
    waited = [one.steps_waited for one in own.finished if one.texts == 1]
    assert len(waited) == 10 and max(waited) == 0  # they came between two steps: none of others
    assert max(step.tokens["bert"] for step in own.steps) <= 2 * 64 + 4  # two pieces, and the short text


def test_a_long_request_goes_on_beside_many_short_ones(bert, llama):
    async def main():
        own = Driven({"bert": bert, "llama": llama}, max_batch_tokens=64)
        [long] = await own.submit(own.scheduler.embed("bert", [TEXTS[4]] * 8))
        [chat] = await own.submit(written(own.scheduler, "llama", "a long prompt, " * 12, max_new_tokens=4))
        shorts = []
        while not (long.done() and chat.done()):
            shorts += await own.submit(*(own.scheduler.embed("bert", ["a cat and a dog"]) for _ in range(12)))
            own.scheduler.step()
            await settled()
            assert len(own.steps) < 40
        await own.until(*shorts)

    asyncio.run(main())


def test_a_cancelled_request_has_no_part_in_the_next_step(bert, llama):
    async def main():
        own = Driven({"bert": bert, "llama": llama}, max_batch_tokens=64)
        call = own.scheduler
        long, other = await own.submit(call.embed("bert", [TEXTS[4]] * 64), call.embed("bert", TEXTS[:2]))
        pieces = call.generate("llama", "good day", max_new_tokens=100, stop_ids=[])
        [first] = await own.submit(anext(pieces))
        await own.until(first, other)
        long.cancel()
        await pieces.aclose()
        await settled()
        steps = len(own.steps)
        assert not own.scheduler.step() and len(own.steps) == steps
        with pytest.raises(asyncio.CancelledError):
            await long
        metrics = own.scheduler.metrics
        assert metrics.kv_bytes == metrics.queued_tokens == metrics.queued == 0
        assert sorted(one.outcome for one in own.finished) == ["cancelled", "cancelled", "done"]

    asyncio.run(main())


def test_more_than_is_accepted_is_refused(bert, llama):
    async def main():
        own = Driven({"bert": bert, "llama": llama}, max_requests=3, max_queued_tokens=100, max_kv_bytes=3 << 13)
        call = own.scheduler
        tasks = await own.submit(call.embed("bert", ["a cat"]), call.embed("bert", [TEXTS[4]] * 2))
        with pytest.raises(aerogel.OverloadedError, match="at most 100 queued tokens, got 68 and 64 more") as error:
            await call.embed("bert", [TEXTS[4]] * 2)
        assert 0 < error.value.retry_after <= 60
        [chat] = await own.submit(written(call, "llama", "x", max_new_tokens=60, stop_ids=[]))
        with pytest.raises(aerogel.OverloadedError, match="at most 3 requests"):
            await call.embed("bert", ["a cat"])
        await own.until(*tasks)
        with pytest.raises(aerogel.OverloadedError, match="bytes of keys and values"):
            await written(call, "llama", "x", max_new_tokens=180)
        with pytest.raises(aerogel.DataError, match="max_kv_bytes"):
            await written(call, "llama", "x", max_new_tokens=250)
        await own.run(call.embed("bert", ["a cat"]))
        await own.until(chat)
        assert (own.scheduler.metrics.refused, own.scheduler.metrics.accepted) == (4, 4)

    asyncio.run(main())


def test_what_is_too_late_is_not_run(bert, llama):
    async def main():
        own = Driven({"bert": bert, "llama": llama}, max_batch_tokens=64)
        call = own.scheduler
        late, long, chat, patient = await own.submit(
            call.embed("bert", ["a cat"], timeout=1.0),
            call.embed("bert", [TEXTS[4]] * 64, timeout=2.0),
            written(call, "llama", "x", max_new_tokens=200, stop_ids=[], timeout=2.0),
            call.embed("bert", ["a cat"], timeout=3.0),
        )
        own.clock.now += 1.5
        own.scheduler.step()
        own.clock.now += 1.0
        await own.until(patient)
        for task in (late, long, chat):
            with pytest.raises(aerogel.DeadlineError):
                await task
        assert [one.outcome for one in own.finished if one.queue_seconds == 1.5][:1] == ["late"]
        assert [step.sequences for step in own.steps] == [{"bert": 2, "llama": 1}, {"bert": 1}]

    asyncio.run(main())


def test_a_drain_finishes_what_was_accepted(bert, llama):
    async def main():
        own = Driven({"bert": bert, "llama": llama})
        call = own.scheduler
        tasks = await own.submit(call.embed("bert", TEXTS), written(call, "llama", "x", max_new_tokens=5))
        drained = asyncio.create_task(call.drain())
        await settled()
        with pytest.raises(aerogel.OverloadedError, match="closing"):
            await call.embed("bert", TEXTS)
        assert not await call.drain(timeout=0)
        await own.until(*tasks)
        assert await drained
        call.close()

    asyncio.run(main())


def test_what_is_wrong_with_one_is_not_the_others(bert, llama, monkeypatch):
    take, run = Writer.take, type(bert).run_sequences

    def broken_take(self, logits):
        if self.options.seed == 13:
            raise aerogel.DataError("this text cannot go on")
        return take(self, logits)

    def broken_run(self, output, ids, *rest):
        if any(len(one) == 7 for one in ids):
            raise aerogel.DataError("not this one")
        return run(self, output, ids, *rest)

    monkeypatch.setattr(Writer, "take", broken_take)
    monkeypatch.setattr(type(bert), "run_sequences", broken_run)

    async def main():
        own = Driven({"bert": bert, "llama": llama})
        call = own.scheduler
        good, bad, text, broken = await own.submit(
            call.embed("bert", TEXTS[:1]),
            call.embed("bert", TEXTS[1:2]),
            written(call, "llama", "x", max_new_tokens=5, seed=1),
            written(call, "llama", "x", max_new_tokens=5, seed=13),
        )
        await own.until(good, text)
        assert text_of(text.result()) == llama.generate("x", 5)
        for task in (bad, broken):
            with pytest.raises(aerogel.DataError):
                await task
        for wrong in ([500], "x" * 400):
            with pytest.raises(aerogel.AerogelError):
                await written(call, "llama", wrong)
        for wrong in ({"kind": "other"}, {"priority": 0.5}, {"timeout": -1}, {"truncate": 1}):
            with pytest.raises(aerogel.AerogelError):
                await call.embed("bert", TEXTS, **wrong)
        for wrong in (None, "a cat", [1]):
            with pytest.raises(aerogel.AerogelError):
                await call.embed("bert", wrong)
            with pytest.raises(aerogel.AerogelError):
                await call.score("bert", [(wrong, wrong)])
        with pytest.raises(aerogel.DataError, match="text 4: expected at most 32 tokens, got 65"):
            await call.embed("bert", TEXTS, truncate=False)
        with pytest.raises(aerogel.UnsupportedModelError):
            await call.score("bert", TEXTS)
        assert own.scheduler.metrics.queued == 0

    asyncio.run(main())

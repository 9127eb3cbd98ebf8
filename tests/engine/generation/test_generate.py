"""Texts: many at once, streams, stop strings, log probabilities, asyncio."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

import aerogel
from aerogel import AerogelError, DataError
from aerogel.engine.generation import batch, loop
from aerogel.engine.generation.stops import StopStrings

from ... import tiny_models
from ...conftest import random_ids

PROMPTS = ["the cat sat on", "a", "big red tree and", "not the small blue dog on a mat under the tree", "dog"]


@pytest.fixture(scope="module")
def llama(llama_folder):
    return aerogel.load(llama_folder)


def text_of(pieces):
    stops = StopStrings(("ab", "b\n\n", "xyz"))
    found = [stops.push(piece) for piece in pieces]
    return [*found, stops.flush()], stops.found


@pytest.mark.parametrize(
    ("pieces", "wanted", "found"),
    [
        (["c", "a", "c"], ["c", "", "ac", ""], None),
        (["ca", "b", "d"], ["c", "", "", ""], "ab"),
        (["c\n", "b", "\n", "\n"], ["c\n", "", "", "", ""], "b\n\n"),
        (["x", "y", "xy", "z"], ["", "", "xy", "", ""], "xyz"),
        (["x", "y"], ["", "", "xy"], None),
        (["..ab..xyz"], ["..", ""], "ab"),
        (["xyab"], ["xy", ""], "ab"),
    ],
)
def test_stop_strings(pieces, wanted, found):
    assert text_of(pieces) == (wanted, found)


def test_a_stop_string_across_tokens(llama):
    whole = llama.generate("the cat", 12)
    words = whole.split(" ")
    stop = whole[len(words[0]) - 1 : len(words[0]) + 3]  # the end of a word, the space, the beginning of the next one
    at = whole.index(stop)
    pieces: list[str] = []
    assert llama.generate("the cat", 12, stop=stop, stream=pieces.append) == whole[:at] == "".join(pieces)
    found = llama.complete("the cat", max_new_tokens=12, stop=["no such text", stop])
    assert (found.text, found.finish_reason, found.stop) == (whole[:at], "stop", stop)
    assert len(found.token_ids) < 12
    assert llama.generate("the cat", 12, stop="no such text") == whole


def test_what_is_known_of_a_text(llama):
    found = llama.complete("the cat sat", max_new_tokens=6, logprobs=3)
    assert found.finish_reason == "length" and found.prompt_tokens == 3 and len(found.token_ids) == 6
    assert found.text == llama.generate("the cat sat", 6) == llama.tokenizer.decode(found.token_ids)
    ids = llama.tokenizer.encode(["the cat sat"])[0]
    for place, one in enumerate(found.logprobs):
        logits = llama.forward([ids + list(found.token_ids[:place])], last_only=True)[0].astype(np.float64)
        logprobs = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        assert one.logprob == pytest.approx(logprobs[one.token_id], abs=1e-4)
        assert [token for token, _, _ in one.top] == np.argsort(-logprobs, kind="stable")[:3].tolist()
        assert one.text == llama.tokenizer.decode([one.token_id], False)
    assert found.logprobs[0].top[0][0] == found.token_ids[0]
    assert llama.complete("the cat", max_new_tokens=0).finish_reason == "length"
    # Penalties and temperature change what is chosen, not what the model says of it.
    other = llama.complete("the cat sat", max_new_tokens=1, logprobs=0, logit_bias={5: 100.0}, temperature=2.0, seed=1)
    first = llama.forward([ids], last_only=True)[0]
    assert other.token_ids == (5,) and other.logprobs[0].logprob == pytest.approx(
        first[5] - np.logaddexp.reduce(first.astype(np.float64)), abs=1e-4
    )


def test_it_says_why_it_ended(llama):
    tokens = list(llama.generate_tokens([5, 6], 8, stop=[]))
    found = llama.complete([5, 6], max_new_tokens=8, stop_ids=[tokens[3]])
    assert found.finish_reason == "stop" and found.stop is None
    assert list(found.token_ids) == tokens[: tokens.index(tokens[3])]
    assert llama.complete(random_ids(19, 62), max_new_tokens=50).finish_reason == "length"  # positions are used up


@pytest.mark.parametrize("most", [64, 2, 1])
@pytest.mark.parametrize("chunk", [512, 3])
def test_many_are_as_each_alone(llama, monkeypatch, most, chunk):
    alone = [llama.generate(prompt, 10) for prompt in PROMPTS]
    monkeypatch.setattr(batch, "MOST_TEXTS", most)
    monkeypatch.setattr(loop, "CHUNK", chunk)
    assert llama.generate(PROMPTS, 10) == alone
    ids = llama.tokenizer.encode(PROMPTS)
    assert llama.generate(ids, 10) == alone
    assert [one.text for one in llama.complete(PROMPTS, max_new_tokens=10, lookup=4)] == alone


def test_each_has_its_own_seed_and_stop(llama):
    options = {"max_new_tokens": 8, "temperature": 1.5, "top_k": 8}
    alone = [llama.generate(prompt, seed=4 + i, **options) for i, prompt in enumerate(PROMPTS)]
    assert llama.generate(PROMPTS, seed=4, **options) == alone
    assert llama.generate(PROMPTS, seed=[4, 5, 6, 7, 8], **options) == alone
    assert llama.generate(["a", "a"], seed=[3, 3], **options)[0] == llama.generate("a", seed=3, **options)
    greedy = llama.generate("the cat", 8)
    two = llama.generate(["the cat", "the cat"], 8, stop=[[greedy[3:6]], []])
    assert two == [greedy[: greedy.index(greedy[3:6])], greedy]
    assert llama.generate([], 8) == []


def test_streams(llama):
    whole = llama.generate("the cat sat", 10)
    pieces = list(llama.stream("the cat sat", max_new_tokens=10))
    assert "".join(pieces) == whole and len(pieces) > 3
    with pytest.raises(AerogelError, match="max_new_tokens"):
        llama.stream("the cat", max_new_tokens=-1)  # at once, not at the first piece
    begun = llama.stream("the cat sat", max_new_tokens=10)
    next(begun)
    begun.close()
    assert llama.generate("the cat sat", 10) == whole


def test_asyncio(llama):
    whole = llama.generate("the cat sat", 10)

    async def all_at_once():
        texts = await asyncio.gather(*(llama.agenerate("the cat sat", max_new_tokens=10) for _ in range(3)))
        pieces = [piece async for piece in llama.astream("the cat sat", max_new_tokens=10)]
        many = await llama.agenerate(["the cat sat", "a"], max_new_tokens=10)
        return texts, pieces, many

    texts, pieces, many = asyncio.run(all_at_once())
    assert texts == [whole] * 3 and "".join(pieces) == whole and many == llama.generate(["the cat sat", "a"], 10)

    async def wrong():
        with pytest.raises(AerogelError, match="top_k"):
            await llama.agenerate("the cat", top_k=0)
        with pytest.raises(AerogelError, match="top_k"):
            async for _ in llama.astream("the cat", top_k=0):
                pass

    asyncio.run(wrong())


@pytest.fixture
def slow(llama, monkeypatch):
    """A model whose texts have no end for a minute; counts its passes."""
    passes = []
    step = batch.Batch.step

    def counted(*args):
        passes.append(1)
        time.sleep(0.02)
        return step(*args)

    monkeypatch.setattr(batch.Batch, "step", counted)
    return passes


def test_cancellation_ends_it_before_the_next_token(llama, slow):
    async def cancelled():
        task = asyncio.create_task(llama.agenerate("the cat", max_new_tokens=50, stop_ids=[]))
        while len(slow) < 3:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async for _ in llama.astream("the cat", max_new_tokens=50, stop_ids=[]):
            break

    asyncio.run(cancelled())
    time.sleep(0.2)
    after = len(slow)
    time.sleep(0.2)
    assert len(slow) == after < 40
    assert not any(thread.name == "aerogel-stream" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_p": 2}, "min_p: expected a number from 0"),
        ({"typical_p": 0}, "typical_p: expected"),
        ({"presence_penalty": "x"}, "presence_penalty: expected"),
        ({"logit_bias": [3]}, "logit_bias: expected token ids and numbers"),
        ({"logit_bias": {-1: 3}}, "logit_bias: expected at least 0"),
        ({"logit_bias": {1000: 3}}, "logit_bias: expected tokens below 19, got 1000"),
        ({"stop": [3]}, "stop: expected a string, got 3"),
        ({"stop": ""}, "stop: expected strings of 1 to"),
        ({"stop": ["x"] * 65}, "stop: expected at most 64"),
        ({"seed": [1, 2]}, "seed: expected one for each of 1 texts, got 2"),
        ({"lookup": -1}, "lookup: expected at least 0"),
        ({"logprobs": -1}, "logprobs: expected at least 0"),
        ({"draft": 3}, "draft: expected a model, got 3"),
        ({"regex": "a", "grammar": "b"}, "expected one of json_schema, regex and grammar, got regex and grammar"),
        ({"beams": 3}, "beams: no such option"),
    ],
)
def test_options_that_are_none(llama, options, said):
    with pytest.raises(AerogelError, match=said):
        llama.complete("the cat", **options)


def test_prompts_that_are_none(llama):
    for wrong, said in (
        (3, "text: expected a text, token ids, or a list of them, got 3"),
        ([None], "prompt: expected a text or token ids, got None"),
        (["a", 3], "prompt: expected"),
        ([[5], [-1]], "prompt: expected none below 0"),
    ):
        with pytest.raises(AerogelError, match=said):
            llama.generate(wrong)
    with pytest.raises(DataError, match="stream: expected one text"):
        llama.generate(["a"], stream=True)
    with pytest.raises(DataError, match="expected one text to stream"):
        llama.stream(["a"])
    with pytest.raises(DataError, match="chat: expected a text"):
        llama.generate([5], chat=True)
    with pytest.raises(DataError, match="stop: expected a string, or a list of them, got 5"):
        llama.generate("a", stop=5)


def test_a_long_prompt_comes_in_parts(llama, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK", 7)
    ids = random_ids(tiny_models.LLAMA["vocab_size"], 40)
    parts = list(llama.generate_tokens(ids, 8, stop=[]))
    monkeypatch.undo()
    assert parts == list(llama.generate_tokens(ids, 8, stop=[]))

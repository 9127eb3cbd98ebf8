"""Guesses ahead: the texts stay the same, and passes are saved."""

from __future__ import annotations

import json

import pytest

import aerogel
from aerogel import AerogelError
from aerogel.engine.generation import batch, loop
from aerogel.engine.generation.speculation import Lookup

from ... import tiny_models


@pytest.fixture(scope="module")
def llama(llama_folder):
    return aerogel.load(llama_folder)


@pytest.fixture
def passes(monkeypatch):
    counted = []
    step = batch.Batch.step

    def count(*args):
        counted.append(1)
        return step(*args)

    monkeypatch.setattr(batch.Batch, "step", count)
    return counted


def test_what_stood_behind_the_same_tokens():
    lookup = Lookup(3)
    assert lookup.guess([1, 2, 3], 9) == []
    assert lookup.guess([1, 2, 3, 1], 9) == [2, 3, 1]
    assert lookup.guess([1, 2, 3, 1, 2], 1) == [3]
    assert lookup.guess([1, 2, 3, 1, 2, 9, 8, 2], 9) == [9, 8, 2]  # the last time counts
    assert lookup.guess([1, 2, 3, 1, 2, 9, 8, 2, 3], 9) == [1, 2, 9]  # but the longest match more
    assert lookup.guess([1, 2, 3, 1, 2, 9, 8, 2, 3], 0) == []
    assert Lookup(4).guess([1, 7, 7], 9) == [7, 7, 7, 7]  # it goes on with what it has guessed


PROMPTS = [[5, 6, 7, 8, 5, 6], [5] * 12, [9, 4, 3], list(range(3, 19)) * 2]


@pytest.mark.parametrize("count", [1, 3, 10])
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}, {"repetition_penalty": 1.3}], ids=str)
def test_lookup_changes_nothing(llama, options, count):
    for prompt in PROMPTS:
        plain = llama.complete(prompt, max_new_tokens=24, stop_ids=[], logprobs=1, **options)
        found = llama.complete(prompt, max_new_tokens=24, stop_ids=[], logprobs=1, lookup=count, **options)
        assert found.token_ids == plain.token_ids and found.finish_reason == plain.finish_reason
        for a, b in zip(found.logprobs, plain.logprobs, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)


def test_lookup_saves_passes(llama, passes):
    options = {"max_new_tokens": 30, "stop_ids": [], "logit_bias": {7: 1000.0}}  # it can only repeat itself
    llama.complete([5, 7, 7], **options)
    plain = len(passes)
    passes.clear()
    assert set(llama.complete([5, 7, 7], lookup=4, **options).token_ids) == {7}
    assert plain == 30 and len(passes) <= 8


def test_it_ends_where_it_would(llama):
    tokens = list(llama.generate_tokens([5] * 8, 30, stop=[]))
    for end in set(tokens):
        plain = llama.complete([5] * 8, max_new_tokens=30, stop_ids=[end])
        assert llama.complete([5] * 8, max_new_tokens=30, stop_ids=[end], lookup=6) == plain
    stop = llama.tokenizer.decode(tokens)[4:9]
    plain = llama.complete([5] * 8, max_new_tokens=30, stop=stop)
    assert plain.stop == stop and llama.complete([5] * 8, max_new_tokens=30, stop=stop, lookup=6) == plain
    assert len(llama.complete([5] * 60, max_new_tokens=30, stop_ids=[], lookup=6).token_ids) == 5  # positions end


def test_a_draft_model_changes_nothing(llama, llama_folder, tmp_path, passes):
    config = {**tiny_models.LLAMA, "num_hidden_layers": 1}
    small = aerogel.load(
        tiny_models.write(tmp_path / "small", config, tiny_models.llama_weights(config, 3), prefix="model.")
    )
    same = aerogel.load(llama_folder)
    for prompt in PROMPTS:
        passes.clear()
        plain = llama.complete(prompt, max_new_tokens=20, stop_ids=[])
        alone = len(passes)
        assert llama.complete(prompt, max_new_tokens=20, stop_ids=[], draft=small) == plain
        passes.clear()
        assert llama.complete(prompt, max_new_tokens=20, stop_ids=[], draft=same) == plain
        assert len(passes) < alone / 3, "a draft model that is the same guesses right"
    many = llama.complete(PROMPTS, max_new_tokens=20, draft=small)
    assert many == llama.complete(PROMPTS, max_new_tokens=20)


def test_draft_models_that_cannot_be(llama, bert_folder, tmp_path):
    config = {**tiny_models.LLAMA, "vocab_size": 12}
    other = aerogel.load(tiny_models.write(tmp_path, config, tiny_models.llama_weights(config), prefix="model."))
    with pytest.raises(AerogelError, match="draft: .*expected the tokens of"):
        llama.generate("the cat", draft=other)
    with pytest.raises(AerogelError, match="not a generating model"):
        llama.generate("the cat", draft=aerogel.load(bert_folder))


def test_rotary_embeddings_that_look_at_lengths(tmp_path, monkeypatch, passes):
    config = {
        **tiny_models.LLAMA,
        "rope_scaling": {"rope_type": "dynamic", "factor": 4.0},
        "max_position_embeddings": 16,
    }
    folder = tiny_models.write(tmp_path, config, tiny_models.llama_weights(config), prefix="model.")
    model = aerogel.load(folder)
    plain = model.complete([5] * 24, max_new_tokens=8, stop_ids=[])
    monkeypatch.setattr(loop, "CHUNK", 5)
    passes.clear()
    assert model.complete([5] * 24, max_new_tokens=8, stop_ids=[], lookup=4) == plain
    assert len(passes) == 8, "nothing is run in parts"
    assert json.loads((folder / "config.json").read_text())["rope_scaling"]["rope_type"] == "dynamic"

"""What generation_config.json does to logits, against Transformers' own processors where that is installed."""

from __future__ import annotations

import json
import shutil

import pytest

import aerogel
from aerogel import AerogelError, ConfigError, DataError, UnsupportedModelError
from aerogel.checkpoint.generation import GenerationSettings, generation_settings
from aerogel.engine.generation.bans import Bans


def _gone(bans):
    return sorted(set(bans.banned()))


def test_n_grams_come_once():
    bans = Bans(GenerationSettings(no_repeat_ngram_size=2), [3, 4, 3], frozenset())
    assert _gone(bans) == [4]
    bans.add(5)
    assert _gone(bans) == []
    bans.add(3)
    assert _gone(bans) == [4, 5]
    assert _gone(Bans(GenerationSettings(no_repeat_ngram_size=1), [2, 7], frozenset())) == [2, 7]


def test_bad_words():
    settings = GenerationSettings(bad_words=((1,), (2, 3), (9,)))
    bans = Bans(settings, [2], frozenset({9}))  # the end of a text is never a bad word
    assert _gone(bans) == [1, 3]
    bans.add(0)
    assert _gone(bans) == [1]


def test_no_early_end():
    bans = Bans(GenerationSettings(min_new_tokens=1), [5, 6], frozenset({3, 4}))
    assert _gone(bans) == [3, 4]
    bans.add(5)
    assert _gone(bans) == []
    assert _gone(Bans(GenerationSettings(min_length=3), [5, 6], frozenset({3}))) == [3]


def test_suppressed():
    bans = Bans(GenerationSettings(suppressed=(1, 10**6), first_suppressed=(2,)), [5], frozenset())
    assert _gone(bans) == [1, 2, 10**6]
    bans.add(5)
    assert _gone(bans) == [1, 10**6]


def test_the_file_is_read(tmp_path):
    said = {
        "repetition_penalty": 1.1,
        "bad_words_ids": [[1, 2]],
        "suppress_tokens": None,
        "do_sample": True,
        "num_beams": 1,
    }
    found = generation_settings(said, tmp_path / "generation_config.json")
    assert found == GenerationSettings(repetition_penalty=1.1, bad_words=((1, 2),))
    for wrong in ({"repetition_penalty": 0}, {"bad_words_ids": [1]}, {"suppress_tokens": [-1]}, {"min_length": True}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            generation_settings(wrong, tmp_path / "generation_config.json")


@pytest.fixture
def llama(llama_folder, tmp_path):
    """A copy whose generation_config.json can be written."""

    def with_settings(**settings):
        folder = tmp_path / "copy"
        shutil.copytree(llama_folder, folder, dirs_exist_ok=True)
        (folder / "generation_config.json").write_text(json.dumps(settings))
        return aerogel.load(folder)

    return with_settings


def test_models_generate_as_their_files_say(llama):
    plain = list(llama().generate_tokens([5, 6], 8, stop=[]))
    strict = llama(suppress_tokens=[plain[0]])
    changed = list(strict.generate_tokens([5, 6], 8, stop=[]))
    assert plain[0] not in changed and changed
    repeated = llama(no_repeat_ngram_size=1)
    tokens = list(repeated.generate_tokens([5, 6], 8, stop=[]))
    assert len({5, 6, *tokens}) == 2 + len(tokens)


def test_an_argument_wins(llama):
    plain = list(llama().generate_tokens([5, 6], 6, stop=[]))
    model = llama(repetition_penalty=5.0)
    assert list(model.generate_tokens([5, 6], 6, stop=[], repetition_penalty=1)) == plain
    for wrong in (0, -1.0, float("nan"), "x", None.__class__):
        with pytest.raises(AerogelError, match="repetition_penalty"):
            model.generate_tokens([5, 6], 6, repetition_penalty=wrong)


def test_texts_that_end_it(llama):
    whole = llama().generate("the cat", 9)
    stop = whole[3:6]
    model = llama(stop_strings=[stop])
    assert model.generate("the cat", 9) == whole[: whole.index(stop)]
    assert model.complete("the cat", max_new_tokens=9, stop="not there").stop == stop
    ids = model.tokenizer.encode(["the cat"])[0]
    assert len(list(model.generate_tokens(ids, 9))) < 9
    with pytest.raises(ConfigError, match="stop_strings: expected up to 64 texts"):
        llama(stop_strings=[3]).generate("the cat")


def test_a_vocabulary_that_is_ruled_out(llama):
    model = llama(suppress_tokens=list(range(19)))
    with pytest.raises(DataError, match="there is no token to go on with"):
        model.generate("the cat")


@pytest.mark.parametrize(
    "settings, match",
    [
        (
            {"eos_token_id": [2, 302]},
            r"generation_config\.json: eos_token_id: expected token ids below \d+, .*, got 302",
        ),
        ({"bos_token_id": 10**6}, "bos_token_id: expected token ids below"),
        ({"bad_words_ids": [[1], [2, 5000]]}, "bad_words_ids: expected token ids below"),
        ({"suppress_tokens": [5000]}, "suppress_tokens: expected token ids below"),
        ({"eos_token_id": "2"}, "eos_token_id: expected a token id or a list of them, got '2'"),
        ({"eos_token_id": [2.0]}, "eos_token_id: expected a token id or a list of them"),
        ({"bos_token_id": -2}, "bos_token_id: expected a token id or a list of them, got -2"),
    ],
)
def test_ids_that_are_none(llama, settings, match):
    model = llama(**settings)
    for write in (lambda: model.generate("the cat"), lambda: model.generate_tokens([5, 6], stop=[])):
        with pytest.raises(ConfigError, match=match):
            write()
    assert llama(eos_token_id=-1).generate("the cat", 2)  # as some files have it: none


def test_what_is_not_supported_is_refused_where_it_matters(llama):
    model = llama(num_beams=4)
    assert model.forward([5, 6]).shape[0] == 2
    with pytest.raises(UnsupportedModelError, match=r"generation_config\.json: num_beams: 4"):
        model.generate("the cat")


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.7},
        {"no_repeat_ngram_size": 2},
        {"bad_words_ids": [[3], [4, 5]]},
        {"suppress_tokens": [3, 4, 5, 6]},
        {"begin_suppress_tokens": [3, 4, 5, 6]},
        {"min_new_tokens": 5, "eos_token_id": 7},
    ],
)
def test_against_transformers(llama, tmp_path, settings):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    model = llama(**settings)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "copy").eval()
    ids = [5, 6, 5]
    with torch.no_grad():
        want = reference.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)[0, len(ids) :].tolist()
    ends = set(model.tokenizer.eos_ids)
    want = [token for token in want if token not in ends]
    assert list(model.generate_tokens(ids, 8)) == want

"""What generation_config.json does to logits, against Transformers' own processors where that is installed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import aerogel
from aerogel import AerogelError, ConfigError, DataError, UnsupportedModelError
from aerogel.checkpoint.generation import GenerationSettings, generation_settings
from aerogel.engine.generation.penalties import Penalties


def _logits(seed=0):
    return np.random.default_rng(seed).standard_normal(12).astype(np.float32)


def test_repetition():
    logits = np.array([1.0, -1.0, 2.0, -2.0], np.float32)
    penalties = Penalties(GenerationSettings(repetition_penalty=2.0), [0, 1], frozenset())
    assert penalties.apply(logits).tolist() == [0.5, -2.0, 2.0, -2.0]
    penalties.add(3)
    assert penalties.apply(logits).tolist() == [0.5, -2.0, 2.0, -4.0]
    assert logits.tolist() == [1.0, -1.0, 2.0, -2.0], "the caller's array is not changed"


def _gone(penalties):
    return np.flatnonzero(np.isneginf(penalties.apply(_logits()))).tolist()


def test_n_grams_come_once():
    penalties = Penalties(GenerationSettings(no_repeat_ngram_size=2), [3, 4, 3], frozenset())
    assert _gone(penalties) == [4]
    penalties.add(5)
    assert _gone(penalties) == []
    penalties.add(3)
    assert _gone(penalties) == [4, 5]
    assert _gone(Penalties(GenerationSettings(no_repeat_ngram_size=1), [2, 7], frozenset())) == [2, 7]


def test_bad_words():
    settings = GenerationSettings(bad_words=((1,), (2, 3), (9,)))
    penalties = Penalties(settings, [2], frozenset({9}))  # the end of a text is never a bad word
    assert _gone(penalties) == [1, 3]
    penalties.add(0)
    assert _gone(penalties) == [1]


def test_no_early_end():
    penalties = Penalties(GenerationSettings(min_new_tokens=1), [5, 6], frozenset({3, 4}))
    assert _gone(penalties) == [3, 4]
    penalties.add(5)
    assert _gone(penalties) == []
    assert _gone(Penalties(GenerationSettings(min_length=3), [5, 6], frozenset({3}))) == [3]


def test_suppressed():
    penalties = Penalties(GenerationSettings(suppressed=(1, 10**6), first_suppressed=(2,)), [5], frozenset())
    assert _gone(penalties) == [1, 2]
    penalties.add(5)
    assert _gone(penalties) == [1]
    with pytest.raises(DataError, match="no token to go on with"):
        Penalties(GenerationSettings(suppressed=tuple(range(12))), [5], frozenset()).apply(_logits())


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

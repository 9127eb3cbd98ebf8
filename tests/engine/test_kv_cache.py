"""As what a model keeps keys and values: the choice, the answers, the memory."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import aerogel
from aerogel import DataError, _core

from ..conftest import random_ids
from ..tiny_models import LLAMA


def ids_of(length, seed):
    return random_ids(LLAMA["vocab_size"], length, seed)


def logits(model, kv_cache, ids):
    """Of the last of the tokens: a prompt, and one by one."""
    session = _core.Session(model._plan, kv_cache)
    rows = []
    for run in (ids[:70], *np.split(ids[70:], len(ids) - 70)):
        rows.append(session.run(run, np.array([0, len(run)], np.int64), "logits", last_only=True, slots=[0])[0])
    return np.array(rows)


def test_the_default_follows_the_weights(long_llama_folder):
    assert aerogel.load(long_llama_folder).kv_cache == "float32"
    assert aerogel.load(long_llama_folder, quant="int8").kv_cache == "float16"
    chosen = aerogel.load(long_llama_folder, kv_cache="int8")
    assert chosen.kv_cache == copy.copy(chosen).kv_cache == pickle.loads(pickle.dumps(chosen)).kv_cache == "int8"


def test_float32_changes_nothing_and_fewer_bits_little(long_llama_folder):
    model = aerogel.load(long_llama_folder)
    ids = np.array(ids_of(90, 5), np.int32)
    whole = model.forward(ids, output="logits")[69:]
    size = np.abs(whole).max()
    for kv_cache, bound in (("float32", 1e-5), ("float16", 2e-3), ("int8", 5e-2)):
        assert np.abs(logits(model, kv_cache, ids) - whole).max() <= bound * size, kv_cache


@pytest.mark.parametrize(("kv_cache", "times"), [("float32", 4), ("float16", 2), ("int8", 1)])
def test_the_memory_is_what_arithmetic_says(long_llama_folder, kv_cache, times):
    model = aerogel.load(long_llama_folder, kv_cache=kv_cache)
    config = model.config
    heads, width = config["num_key_value_heads"], config["hidden_size"] // config["num_attention_heads"]
    numbers = 2 * config["num_hidden_layers"] * heads * width
    scales = 2 * config["num_hidden_layers"] * heads * 4 if kv_cache == "int8" else 0
    assert model.kv_cache_bytes == numbers * times + scales
    session = _core.Session(model._plan, kv_cache)
    for length in (1, 64, 65, 100):
        session.truncate_slot(3, 0)
        session.run(np.array(ids_of(length, 1), np.int32), np.array([0, length], np.int64), "logits", slots=[3])
        blocks = -(-length // 64)
        assert session.cache_nbytes == blocks * (64 * model.kv_cache_bytes + 64)
        assert session.nbytes > session.cache_nbytes
    session.truncate_slot(3, 64)
    assert session.cache_nbytes == 64 * model.kv_cache_bytes + 64
    session.free_slot(3)
    assert session.cache_nbytes == 0


def test_what_is_refused(long_llama_folder):
    for wrong in ("float64", "", 16, b"int8"):
        with pytest.raises(DataError, match="kv_cache: expected one of float32, float16, int8"):
            aerogel.load(long_llama_folder, kv_cache=wrong)
    model = aerogel.load(long_llama_folder)
    with pytest.raises(DataError, match="expected float32, float16 or int8, got 'half'"):
        _core.Session(model._plan, "half")
    session = _core.Session(model._plan)
    session.run(np.array([1, 2, 3], np.int32), np.array([0, 3], np.int64), "logits", slots=[0])
    with pytest.raises(DataError, match="slot 0: expected a length up to 3, got 4"):
        session.share_slot(0, 1, 4)
    with pytest.raises(DataError, match="slot 0: expected an empty one, got one with 3 tokens"):
        session.share_slot(0, 0, 2)
    session.share_slot(0, 1, 3)
    assert session.slot_length(1) == 3


def test_an_encoder_keeps_nothing(bert_folder):
    assert aerogel.load(bert_folder).kv_cache_bytes == 0

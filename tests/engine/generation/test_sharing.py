"""Texts of one call that begin alike: their common tokens are run once, and nothing of the answers changes."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest

import aerogel
from aerogel.engine.generation.calls import complete
from aerogel.engine.generation.parts import FEWEST
from aerogel.engine.generation.sharing import LEAST, loan_of

from ...conftest import random_ids
from ...tiny_models import LLAMA


def ids_of(length, seed):
    return random_ids(LLAMA["vocab_size"], length, seed)


class Counted:
    """A session that counts the tokens that it runs."""

    def __init__(self, session):
        self._session = session
        self.tokens = 0

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run(self, ids, *args, **options):
        self.tokens += len(ids)
        return self._session.run(ids, *args, **options)


@pytest.fixture(scope="module")
def llama(long_llama_folder):
    return aerogel.load(long_llama_folder)


def written(model, prompts, options):
    """Token ids of the texts, and how many tokens were run for them."""
    source = model.as_source()
    counted = []

    @contextlib.contextmanager
    def session():
        with source.session() as own:
            counted.append(Counted(own))
            yield counted[-1]
            assert own.cache_nbytes == 0

    found = complete(replace(source, session=session), prompts, False, options)
    return [one.token_ids for one in found], counted[0].tokens


@pytest.mark.parametrize("kv_cache", ["float32", "float16", "int8"])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "seed": [3, 4, 5, 6, 7, 8]}, {"lookup": 4}])
def test_a_common_beginning_is_run_once(long_llama_folder, kv_cache, options):
    model = aerogel.load(long_llama_folder, kv_cache=kv_cache)
    start, other = ids_of(100, 1), ids_of(90, 2)
    prompts = [
        [*start, 7, 8, 9],
        other,
        [*start, 7, 8, 11, 12],  # goes on in the middle of a block
        [*start[:64], 5, 6],  # exactly a block
        [*start, 7, 8, 9],  # the same again
        [*start[: LEAST - 1], 4],  # too little in common
    ]
    options = {"max_new_tokens": 12, **options}
    alone = [written(model, [one], {**options, **_own(options, i)}) for i, one in enumerate(prompts)]
    found, tokens = written(model, prompts, options)
    assert found == [ids for [ids], _ in alone]
    if "lookup" not in options:  # guesses may be others
        assert sum(count for _, count in alone) - tokens == 96 + 58 + 95  # FEWEST are run of each


def _own(options, i):
    return {"seed": options["seed"][i]} if "seed" in options else {}


def test_samples_of_one_prompt_read_it_once(llama):
    prompt = ids_of(80, 3)
    options = {"max_new_tokens": 3, "temperature": 1.0, "seed": 1}
    found, tokens = written(llama, [prompt] * 70, options)  # more than are written at the same time
    assert tokens <= 80 + 69 * FEWEST + 70 * 2
    assert found[:2] == [written(llama, [prompt], {**options, "seed": 1 + i})[0][0] for i in range(2)]
    assert len(set(found)) > 10


def test_a_text_that_ends_at_once_has_lent_before(llama):
    prompt = ids_of(60, 4)
    found, tokens = written(llama, [prompt] * 5, {"max_new_tokens": 1})
    assert len(set(found)) == 1
    assert tokens == 60 + 4 * FEWEST


class Place:
    def __init__(self, ids):
        self.ids, self.slot, self.held, self.loan = ids, 0, 0, None


def test_the_last_tokens_are_never_lent():
    ids = list(range(LEAST + FEWEST))
    assert loan_of(ids, [Place(ids[:-1])]) is not None
    assert loan_of(ids[:-1], [Place(ids)]) is None
    assert loan_of(ids, [Place([1, *ids]), Place([])]) is None
    assert loan_of(np.array(ids), []) is None

"""What is written does not depend on how prompts are cut, nor on who else is there."""

from __future__ import annotations

import numpy as np
import pytest

import aerogel
from aerogel.engine.generation.parts import FEWEST, part_of

from ...conftest import random_ids
from ...tiny_models import LLAMA


@pytest.mark.parametrize("left", [1, 5, 64, 65, 71, 72, 73, 200])
def test_a_prompt_is_cut_so_that_many_are_run_together(left):
    parts = []
    while left:
        parts.append(part_of(left, 64))
        left -= parts[-1]
    assert all(part >= FEWEST for part in parts[1:]) and max(parts) < 64 + FEWEST


@pytest.mark.parametrize("kv_cache", ["float32", "float16", "int8"])
@pytest.mark.parametrize("quant", [None, "int8"])
def test_logits_are_the_same_to_the_bit_however_a_prompt_is_cut(long_llama_folder, quant, kv_cache):
    model = aerogel.load(long_llama_folder, quant=quant, kv_cache=kv_cache)
    ids = np.array(random_ids(LLAMA["vocab_size"], 140, 5), np.int32)

    def logits(cuts):
        with model.as_source().session() as session:
            session.truncate_slot(0, 0)
            for begin, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
                ends = np.array([0, end - begin], np.int64)
                last = session.run(ids[begin:end], ends, "logits", last_only=True, slots=[0])
            return last

    whole = logits([])  # its last block of queries has twelve
    for cuts in ([64], [64, 128], [5, 17, 132], [132]):
        np.testing.assert_array_equal(logits(cuts), whole)
    ids = ids[:130]  # two
    np.testing.assert_array_equal(logits([64]), logits([]))
